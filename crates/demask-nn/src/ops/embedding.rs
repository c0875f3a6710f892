use burn::tensor::{Int, Tensor, TensorData};

use super::{cpu, on_cpu};

/// Rows of a table.
///
/// # Shapes
/// `table`: `[vocabulary, width]`, `ids`: any number below `vocabulary`, output: `[ids, width]`.
///
/// # Panics
/// If an id is not a row of the table (the network checks ids at its entry).
pub fn embedding(table: Tensor<2>, ids: &[u32]) -> Tensor<2> {
    if on_cpu(&table.device()) {
        cpu::embedding(table, ids)
    } else {
        portable(table, ids)
    }
}

fn portable(table: Tensor<2>, ids: &[u32]) -> Tensor<2> {
    let rows: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
    let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [ids.len()]), &table.device());
    table.select(0, rows)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, device, gradients, random};
    use super::*;

    #[test]
    fn fast_path_is_the_portable_path() {
        let d = device();
        let ids = [3, 0, 3, 6, 1];
        let run = |f: fn(Tensor<2>, &[u32]) -> Tensor<2>| {
            let table = random([7, 5], 1, &d).require_grad();
            let y = f(table.clone(), &ids);
            let grads = (y.clone() * random([5, 5], 2, &d)).sum().backward();
            (y.inner(), table.grad(&grads).unwrap())
        };
        let (fast, slow) = (run(cpu::embedding), run(portable));
        close(fast.0, slow.0, 0.0);
        close(fast.1, slow.1, 1e-6);
    }

    #[test]
    fn slopes_are_those_of_finite_differences() {
        // A row that is read three times, and rows that are not.
        let ids = [3, 0, 3, 6, 3];
        gradients(
            |t| cpu::embedding(t.leaf([7, 5]), &ids),
            |t| portable(t.leaf([7, 5]), &ids),
        );
    }
}
