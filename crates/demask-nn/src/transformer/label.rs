//! The label input: one learned vector a class, added to the condition of the noise level.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, activation};

use super::loader::Loader;
use crate::{NnError, ops};

/// Class label to condition vector (DiT, arXiv 2212.09748; UDLM, arXiv 2412.10193):
/// `silu(table[label])`, where the last row of the table stands for "no label".
#[derive(Module, Debug)]
pub struct LabelEmbedding {
    table: Param<Tensor<2>>,
    classes: usize,
}

impl LabelEmbedding {
    /// Reads `labels.weight` `[classes + 1, cond]`.
    pub(super) fn load(
        classes: usize,
        cond: usize,
        loader: &mut Loader<'_>,
    ) -> Result<Self, NnError> {
        let table = loader.param("labels.weight", [classes + 1, cond])?;
        Ok(Self { table, classes })
    }

    /// What each row of the request adds to the condition, `[batch * length, cond]`. Without
    /// `labels` no sequence has one.
    pub(super) fn forward(
        &self,
        labels: Option<&[Option<u32>]>,
        [batch, length]: [usize; 2],
    ) -> Tensor<2> {
        let none = self.classes as u32;
        let rows: Vec<u32> = match labels {
            Some(labels) => labels.iter().map(|label| label.unwrap_or(none)).collect(),
            None => vec![none; batch],
        };
        let vectors = activation::silu(ops::embedding(self.table.val(), &rows));
        let [_, width] = vectors.dims();
        vectors
            .reshape([batch, 1, width])
            .expand([batch, length, width])
            .reshape([batch * length, width])
    }
}

/// Says what is wrong with the labels of a request of `batch` sequences to a network of `classes`.
pub(super) fn check(
    labels: &[Option<u32>],
    batch: usize,
    classes: Option<usize>,
) -> Result<(), NnError> {
    let refuse = |message: String| Err(NnError::Input(message));
    if labels.len() != batch {
        return refuse(format!("{} labels for {batch} sequences", labels.len()));
    }
    let Some(label) = labels.iter().flatten().max() else {
        return Ok(());
    };
    match classes {
        None => refuse(format!(
            "label {label} was given to a network without labels; leave `labels` out"
        )),
        Some(classes) if *label as usize >= classes => refuse(format!(
            "label {label} is outside the {classes} classes of the network"
        )),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::ParamSource;

    /// Two classes of width 2 and the row of no label.
    struct Table;

    impl ParamSource for Table {
        fn tensor(&mut self, _: &str, shape: &[usize]) -> Result<TensorData, NnError> {
            let values = vec![0.0_f32, 1.0, -1.0, 2.0, 0.5, -2.0];
            Ok(TensorData::new(values, shape.to_vec()))
        }
    }

    #[test]
    fn rows_of_the_table_by_hand() {
        let mut loader = Loader {
            source: &mut Table,
            device: &Device::flex(),
            pack: None,
        };
        let table = LabelEmbedding::load(2, 2, &mut loader).unwrap();
        let run = |labels: Option<&[Option<u32>]>| {
            let rows = table.forward(labels, [2, 2]);
            rows.into_data().try_to_vec::<f32>().unwrap()
        };
        // silu(x) = x / (1 + exp(-x)).
        let (first, second) = ([0.0, 0.731_058_6], [-0.268_941_4, 1.761_594_2]);
        let none = [0.311_229_66, -0.238_405_84];
        let close = |found: Vec<f32>, rows: [[f32; 2]; 4]| {
            for (a, b) in found.iter().zip(rows.concat()) {
                assert!((a - b).abs() < 1e-6, "{found:?}");
            }
        };
        close(
            run(Some(&[Some(1), Some(0)])),
            [second, second, first, first],
        );
        close(run(Some(&[None, Some(1)])), [none, none, second, second]);
        close(run(None), [none; 4]);
    }

    #[test]
    fn labels_that_do_not_fit_are_refused() {
        let says = |labels: &[Option<u32>], classes| {
            check(labels, 2, classes).map_err(|error| error.to_string())
        };
        assert!(says(&[None, Some(2)], Some(3)).is_ok());
        assert!(says(&[None, None], None).is_ok());
        assert_eq!(
            says(&[Some(0)], Some(3)).unwrap_err(),
            "network input: 1 labels for 2 sequences"
        );
        let outside = says(&[Some(0), Some(3)], Some(3)).unwrap_err();
        assert!(
            outside.contains("label 3 is outside the 3 classes"),
            "{outside}"
        );
        let without = says(&[None, Some(0)], None).unwrap_err();
        assert!(without.contains("network without labels"), "{without}");
    }
}
