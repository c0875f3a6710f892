//! The U-Net gives the predictions and gradients of diffusers' `UNet2DModel` (`parity/unet.py`).

use std::collections::HashMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use demask_nn::unet::{Input, params::for_each_shape};
use demask_nn::{NnError, ParamSource, UNet, UNetConfig};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    demask: UNetConfig,
    size: [usize; 2],
    times: Vec<f32>,
    prediction: Vec<f64>,
    pictures_gradient: Vec<f64>,
    /// Of each parameter: sum of squares, product with a direction.
    gradients: HashMap<String, [f64; 2]>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("fixtures/unet.json")).unwrap()
}

/// Values in -1..1 that depend on a name and an index: the integer rule of the script.
fn wave(name: &str, n: usize) -> Vec<f64> {
    let bytes = name.bytes().enumerate();
    let key: u64 = bytes
        .map(|(i, byte)| (i as u64 + 1) * u64::from(byte))
        .sum();
    (0..n as u64)
        .map(|i| ((i * 7919 + key * 104_729) % 65_521) as f64 / 65_521.0 * 2.0 - 1.0)
        .collect()
}

struct Waves;

impl ParamSource for Waves {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<TensorData, NnError> {
        let n: usize = shape.iter().product();
        let (times, plus) = match shape {
            [_] if name.ends_with("weight") => (0.3, 1.0),
            [_] => (0.3, 0.0),
            [filters, ..] => ((3.0 * *filters as f64 / n as f64).sqrt(), 0.0),
            [] => unreachable!("every parameter has a size"),
        };
        let values: Vec<f32> = wave(name, n)
            .into_iter()
            .map(|x| (x * times + plus) as f32)
            .collect();
        Ok(TensorData::new(values, shape.to_vec()))
    }
}

fn pictures<const D: usize>(name: &str, dims: [usize; D], device: &Device) -> Tensor<D> {
    let values = wave(name, dims.iter().product());
    let values: Vec<f32> = values.into_iter().map(|x| x as f32).collect();
    Tensor::from_data(TensorData::new(values, dims), device)
}

/// The gradients of all parameters, in their order.
struct Collected<'a> {
    gradients: &'a Gradients,
    values: Vec<Vec<f32>>,
}

impl ModuleVisitor for Collected<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let gradient = param
            .val()
            .grad(self.gradients)
            .expect("every parameter has one");
        self.values.push(gradient.into_data().try_to_vec().unwrap());
    }
}

/// Asserts that values agree to `tolerance` of the largest.
#[track_caller]
fn close(what: &str, found: &[f32], wanted: &[f64], tolerance: f64) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    let scale = wanted.iter().fold(0f64, |most, x| most.max(x.abs()));
    for (i, (&found, wanted)) in found.iter().zip(wanted).enumerate() {
        let error = (f64::from(found) - wanted).abs() / scale;
        assert!(
            error < tolerance,
            "{what} at {i}: {found}, expected {wanted}"
        );
    }
}

#[test]
fn predictions_and_gradients_are_those_of_diffusers() {
    for case in cases() {
        let device = Device::flex().autodiff();
        let (config, [height, width]) = (&case.demask, case.size);
        let batch = case.times.len();
        let network = UNet::from_source(config, &mut Waves, &device).unwrap();
        let input = pictures(
            "pictures",
            [batch, config.in_channels, height, width],
            &device,
        );
        let input = input.require_grad();
        let prediction = network
            .forward(Input {
                pictures: input.clone(),
                times: case.times.clone(),
            })
            .unwrap();
        let found: Vec<f32> = prediction.clone().into_data().try_to_vec().unwrap();
        close("prediction", &found, &case.prediction, 1e-5);

        let direction = pictures("direction", prediction.dims(), &device);
        let gradients = (prediction * direction).sum().backward();
        let found = input.grad(&gradients).unwrap().into_data();
        let found: Vec<f32> = found.try_to_vec().unwrap();
        close(
            "gradient of the pictures",
            &found,
            &case.pictures_gradient,
            1e-4,
        );

        let mut collected = Collected {
            gradients: &gradients,
            values: Vec::new(),
        };
        network.visit(&mut collected);
        let mut values = collected.values.into_iter();
        let mut seen = 0;
        for_each_shape(config, &mut |name, shape| {
            let value = values.next().unwrap();
            assert_eq!(value.len(), shape.iter().product::<usize>(), "{name}");
            let [squares, product] = case.gradients[name];
            let pairs = || {
                value
                    .iter()
                    .map(|&x| f64::from(x))
                    .zip(wave(name, value.len()))
            };
            let found_squares: f64 = pairs().map(|(x, _)| x * x).sum();
            let found_product: f64 = pairs().map(|(x, wave)| x * wave).sum();
            // The bias of the keys changes nothing: its gradient is zero, but for rounding.
            let squares = squares.max(1e-6);
            assert!(
                (found_squares / squares - 1.0).abs() < 1e-4 || found_squares.max(squares) <= 1e-6,
                "{name}: {found_squares}, expected {squares}"
            );
            // The product may be small because its terms cancel.
            let error = (found_product - product).abs() / (squares * value.len() as f64).sqrt();
            assert!(error < 1e-4, "{name}: {found_product}, expected {product}");
            seen += 1;
        });
        assert_eq!((seen, values.next()), (case.gradients.len(), None));
    }
}

#[test]
fn a_picture_is_the_same_alone_and_in_a_batch() {
    let case = &cases()[0];
    let (config, [height, width], device) = (&case.demask, case.size, Device::flex());
    let network = UNet::from_source(config, &mut Waves, &device).unwrap();
    let all = pictures("pictures", [2, config.in_channels, height, width], &device);
    let run = |pictures: Tensor<4>, times: &[f32]| -> Vec<f32> {
        let input = Input {
            pictures,
            times: times.to_vec(),
        };
        let prediction = network.forward(input).unwrap();
        prediction.into_data().try_to_vec().unwrap()
    };
    let both = run(all.clone(), &case.times);
    let each: Vec<f32> = (0..2)
        .flat_map(|i| run(all.clone().narrow(0, i, 1), &case.times[i..=i]))
        .collect();
    assert!(both == each);
}

#[test]
fn parameters_come_back_by_name() {
    let case = &cases()[1];
    let network = UNet::from_source(&case.demask, &mut Waves, &Device::flex()).unwrap();
    let mut count = 0;
    network.for_each_param(&mut |name, data| {
        let wanted = Waves.tensor(name, &data.shape().to_vec()).unwrap();
        assert_eq!(data, wanted, "{name}");
        count += data.num_elements() as u64;
    });
    assert_eq!(count, case.demask.parameters());
}

#[test]
fn what_does_not_fit_is_refused() {
    let case = &cases()[0];
    let device = Device::flex();
    let network = UNet::from_source(&case.demask, &mut Waves, &device).unwrap();
    let says = |dims: [usize; 4], times: Vec<f32>| {
        let input = Input {
            pictures: Tensor::zeros(dims, &device),
            times,
        };
        network.forward(input).unwrap_err().to_string()
    };
    for (dims, times, said) in [
        ([1, 2, 8, 8], vec![0.0], "2 channels, the network reads 3"),
        (
            [1, 3, 8, 7],
            vec![0.0],
            "8x7: height and width must be multiples of 2",
        ),
        ([2, 3, 8, 8], vec![0.0], "1 times for 2 pictures"),
        ([1, 3, 8, 8], vec![f32::NAN], "a time of NaN"),
        ([0, 3, 8, 8], vec![], "0 pictures of 8x8 are empty"),
    ] {
        let message = says(dims, times);
        assert!(message.contains(said), "{message}");
    }
    struct Other;
    impl ParamSource for Other {
        fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<TensorData, NnError> {
            match name {
                "conv_in.weight" => Ok(TensorData::zeros::<f32, _>([1, 2])),
                _ => Waves.tensor(name, shape),
            }
        }
    }
    let error = UNet::from_source(&case.demask, &mut Other, &device).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("conv_in.weight") && error.contains("[1, 2]"),
        "{error}"
    );
}
