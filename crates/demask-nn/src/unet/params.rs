//! Names and shapes of every parameter, in the order of the forward pass.
//!
//! The names are those of diffusers' `UNet2DModel`.

use super::UNetConfig;

/// Calls `visit` with the name and the shape of each parameter. Weights of convolutions are
/// `[filters, channels, kernel, kernel]`, those of linears `[out, in]`.
pub fn for_each_shape(config: &UNetConfig, visit: &mut dyn FnMut(&str, &[usize])) {
    let c = config;
    let mut names = Names {
        visit,
        condition: c.condition(),
    };
    names.linear("time_embedding.linear_1", [c.condition(), c.channels[0]]);
    names.linear("time_embedding.linear_2", [c.condition(); 2]);
    names.conv("conv_in", [c.channels[0], c.in_channels, 3]);
    let last = c.channels.len() - 1;
    for level in 0..=last {
        let (at, own) = (format!("down_blocks.{level}"), c.channels[level]);
        for (j, (from, to)) in c.downward(level).into_iter().enumerate() {
            names.residual(&format!("{at}.resnets.{j}"), from, to);
        }
        if c.attends(level) {
            for j in 0..c.blocks {
                names.attention(&format!("{at}.attentions.{j}"), own);
            }
        }
        if level < last {
            names.conv(&format!("{at}.downsamplers.0.conv"), [own, own, 3]);
        }
    }
    names.residual("mid_block.resnets.0", c.channels[last], c.channels[last]);
    if c.middle_attention {
        names.attention("mid_block.attentions.0", c.channels[last]);
    }
    names.residual("mid_block.resnets.1", c.channels[last], c.channels[last]);
    for (i, level) in (0..=last).rev().enumerate() {
        let (at, own) = (format!("up_blocks.{i}"), c.channels[level]);
        for (j, (stream, joined, to)) in c.upward(level).into_iter().enumerate() {
            names.residual(&format!("{at}.resnets.{j}"), stream + joined, to);
        }
        if c.attends(level) {
            for j in 0..=c.blocks {
                names.attention(&format!("{at}.attentions.{j}"), own);
            }
        }
        if level > 0 {
            names.conv(&format!("{at}.upsamplers.0.conv"), [own, own, 3]);
        }
    }
    names.norm("conv_norm_out", c.channels[0]);
    names.conv("conv_out", [c.out_channels, c.channels[0], 3]);
}

struct Names<'a> {
    visit: &'a mut dyn FnMut(&str, &[usize]),
    condition: usize,
}

impl Names<'_> {
    fn with_bias(&mut self, name: &str, weight: &[usize]) {
        (self.visit)(&format!("{name}.weight"), weight);
        (self.visit)(&format!("{name}.bias"), &weight[..1]);
    }

    fn norm(&mut self, name: &str, channels: usize) {
        self.with_bias(name, &[channels]);
    }

    fn linear(&mut self, name: &str, dims: [usize; 2]) {
        self.with_bias(name, &dims);
    }

    fn conv(&mut self, name: &str, [filters, channels, kernel]: [usize; 3]) {
        self.with_bias(name, &[filters, channels, kernel, kernel]);
    }

    fn residual(&mut self, name: &str, from: usize, to: usize) {
        self.norm(&format!("{name}.norm1"), from);
        self.conv(&format!("{name}.conv1"), [to, from, 3]);
        self.linear(&format!("{name}.time_emb_proj"), [to, self.condition]);
        self.norm(&format!("{name}.norm2"), to);
        self.conv(&format!("{name}.conv2"), [to, to, 3]);
        if from != to {
            self.conv(&format!("{name}.conv_shortcut"), [to, from, 1]);
        }
    }

    fn attention(&mut self, name: &str, channels: usize) {
        self.norm(&format!("{name}.group_norm"), channels);
        for part in ["to_q", "to_k", "to_v", "to_out.0"] {
            self.linear(&format!("{name}.{part}"), [channels; 2]);
        }
    }
}
