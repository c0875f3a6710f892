//! The norm of a network: root-mean-square or layer norm, over the last axis.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::NormKind;
use super::loader::Loader;
use crate::ops::BranchNorm;
use crate::{NnError, ops};

/// A norm with its scale and, if the network has one, its shift.
#[derive(Module, Debug)]
pub struct Norm {
    weight: Param<Tensor<1>>,
    bias: Option<Param<Tensor<1>>>,
    eps: f64,
    centred: bool,
}

impl Norm {
    pub(super) fn load(
        name: &str,
        width: usize,
        kind: NormKind,
        eps: f64,
        loader: &mut Loader<'_>,
    ) -> Result<Self, NnError> {
        let weight = loader.param(&format!("{name}.weight"), [width])?;
        let bias = (kind == NormKind::Layer { bias: true })
            .then(|| loader.param(&format!("{name}.bias"), [width]))
            .transpose()?;
        Ok(Self {
            weight,
            bias,
            eps,
            centred: kind != NormKind::Rms,
        })
    }

    /// Its parameters, for a branch.
    pub(super) fn of_branch(&self) -> BranchNorm {
        BranchNorm {
            scale: self.weight.val(),
            shift: self.bias.as_ref().map(Param::val),
            eps: self.eps,
            centred: self.centred,
        }
    }

    /// Where the parameters live.
    pub(super) fn device(&self) -> Device {
        self.weight.val().device()
    }

    /// `[rows, width]` to the same shape.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let weight = self.weight.val();
        let y = match self.centred {
            true => ops::layer_norm(x, weight, self.eps),
            false => ops::rms_norm(x, weight, self.eps),
        };
        match &self.bias {
            Some(bias) => y + bias.val().unsqueeze(),
            None => y,
        }
    }
}
