//! Operands stored as bf16: the bits of the same values stored as f32.

use super::*;
use crate::element::{Bf16, Element};
use crate::simd::with_every_isa;
use crate::testing::{Lcg, floats as wide, rounded};

struct Operands<T> {
    q: Vec<T>,
    k: Vec<T>,
    v: Vec<T>,
    dout: Vec<T>,
}

/// Output, log-sum-exp and gradients, these stored as `D`.
fn run<T: Element, D: Element>(
    x: &Operands<T>,
    [q_dims, k_dims]: [[usize; 4]; 2],
    precision: Precision,
) -> [Vec<f32>; 5] {
    let [batch, q_len, heads, _] = q_dims;
    let ranges = KeyRanges::causal(q_len, k_dims[1]);
    let [q, k, v] =
        [(&x.q, q_dims), (&x.k, k_dims), (&x.v, k_dims)].map(|(x, dims)| HeadsRef::new(x, dims));
    let (mut out, mut lse) = (vec![0.0; x.q.len()], vec![0.0; batch * heads * q_len]);
    let to = HeadsMut::new(&mut out, q_dims);
    attention_forward(q, k, v, &ranges, 0.3, precision, to, &mut lse);
    let nothing = |n| vec![D::default(); n];
    let (mut dq, mut dk, mut dv) = (nothing(x.q.len()), nothing(x.k.len()), nothing(x.k.len()));
    attention_backward(
        q,
        k,
        v,
        &ranges,
        0.3,
        precision,
        HeadsRef::new(&out, q_dims),
        &lse,
        HeadsRef::new(&x.dout, q_dims),
        HeadsMut::new(&mut dq, q_dims),
        HeadsMut::new(&mut dk, k_dims),
        HeadsMut::new(&mut dv, k_dims),
    );
    [out, lse, wide(&dq), wide(&dk), wide(&dv)]
}

#[test]
fn operands_stored_as_bf16_are_those_values() {
    for [batch, q_len, k_len, heads, kv_heads, dim] in [
        [1, 1, 1, 1, 1, 1],
        [2, 37, 150, 4, 2, 24],
        [1, 70, 70, 3, 3, 32],
    ] {
        let dims = [[batch, q_len, heads, dim], [batch, k_len, kv_heads, dim]];
        let [nq, nk] = dims.map(|dims| dims.iter().product());
        let mut rng = Lcg(5);
        let mut of = |n| rounded::<Bf16>(&rng.vec(n));
        let small = Operands {
            q: of(nq),
            k: of(nk),
            v: of(nk),
            dout: of(nq),
        };
        let large = Operands {
            q: wide(&small.q),
            k: wide(&small.k),
            v: wide(&small.v),
            dout: wide(&small.dout),
        };
        for precision in [Precision::F32, Precision::Bf16] {
            with_every_isa(|isa| {
                let want = run::<f32, f32>(&large, dims, precision);
                let what = format!("{dims:?} {precision:?} {}", isa.name());
                assert!(run::<Bf16, f32>(&small, dims, precision) == want, "{what}");
                let stored = run::<Bf16, Bf16>(&small, dims, precision);
                assert!(stored[..2] == want[..2], "{what}");
                for (stored, want) in stored[2..].iter().zip(&want[2..]) {
                    // Below its normal numbers an instruction of bf16 gives 0.
                    let near =
                        |(x, y): (&f32, &f32)| (x - wide(&rounded::<Bf16>(&[*y]))[0]).abs() < 1e-37;
                    assert!(stored.iter().zip(want).all(near), "{what}");
                }
            });
        }
    }
}
