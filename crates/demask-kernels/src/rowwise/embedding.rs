//! Rows of a table by id, and the gradient.

use super::{row_count, same_size};
use crate::memory::MutPtr;
use crate::threads;

fn checked(ids: &[i64], rows: usize) {
    if let Some(id) = ids.iter().find(|&&id| id < 0 || id >= rows as i64) {
        panic!("embedding: id {id} is not one of the {rows} rows");
    }
}

/// `y[i] = table[ids[i]]`.
///
/// # Shapes
/// `table`: `[vocab, n]`; `ids`: `[rows]`; `y`: `[rows, n]`.
///
/// # Panics
/// When the shapes do not fit together or an id lies outside the table.
pub fn embedding_gather(table: &[f32], n: usize, ids: &[i64], y: &mut [f32]) {
    checked(ids, row_count("embedding_gather", table.len(), n));
    same_size("embedding_gather", &[ids.len(), n], &[y.len()]);
    let (len, y) = (y.len(), MutPtr(y.as_mut_ptr()));
    threads::over_rows(ids.len(), len, |a, b| {
        for (i, &id) in ids.iter().enumerate().take(b).skip(a) {
            // SAFETY: row i belongs to this part alone.
            let y = unsafe { y.slice(i * n, n) };
            y.copy_from_slice(&table[id as usize * n..][..n]);
        }
    });
}

/// `dtable[ids[i]] += dy[i]`, for each row of the table in increasing i.
///
/// # Shapes
/// As in [`embedding_gather`]; `dtable`: `[vocab, n]`, accumulated into.
///
/// # Panics
/// When the shapes do not fit together or an id lies outside the table.
pub fn embedding_scatter_add(dtable: &mut [f32], n: usize, ids: &[i64], dy: &[f32]) {
    checked(ids, row_count("embedding_scatter_add", dtable.len(), n));
    same_size("embedding_scatter_add", &[ids.len(), n], &[dy.len()]);
    // Equal ids become neighbours and keep their order, so each table row has one owner.
    let mut order: Vec<usize> = (0..ids.len()).collect();
    order.sort_by_key(|&i| ids[i]);
    let groups: Vec<&[usize]> = order.chunk_by(|&a, &b| ids[a] == ids[b]).collect();
    let table = MutPtr(dtable.as_mut_ptr());
    threads::over_rows(groups.len(), dy.len(), |a, b| {
        for group in &groups[a..b] {
            // SAFETY: the id of a group occurs in no other group.
            let sum = unsafe { table.slice(ids[group[0]] as usize * n, n) };
            for &i in *group {
                for (s, d) in sum.iter_mut().zip(&dy[i * n..(i + 1) * n]) {
                    *s += d;
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Lcg;
    use crate::threads::with_threads;
    use proptest::prelude::*;

    #[test]
    fn literal_rows() {
        let mut y = [0.0; 6];
        embedding_gather(&[1.0, 2.0, 3.0, 4.0], 2, &[1, 0, 1], &mut y);
        assert_eq!(y, [3.0, 4.0, 1.0, 2.0, 3.0, 4.0]);
        let mut d = [10.0, 0.0, 0.0, 0.0];
        embedding_scatter_add(&mut d, 2, &[1, 0, 1], &y);
        assert_eq!(d, [11.0, 2.0, 6.0, 8.0]);
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let (rows, n) = (20_000, 128);
        let dy = Lcg(13).vec(rows * n);
        let ids: Vec<i64> = (0..rows as i64).map(|i| i * i % 37).collect();
        let run = |threads| {
            with_threads(threads, || {
                let mut d = vec![0.0; 37 * n];
                embedding_scatter_add(&mut d, n, &ids, &dy);
                d
            })
        };
        let one = run(1);
        assert_eq!(one, run(3));
        // In order of the rows, by hand.
        let mut sum = 0.0f32;
        for i in (0..rows).filter(|&i| ids[i] == 4) {
            sum += dy[i * n];
        }
        assert_eq!(one[4 * n], sum);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn random_ids_in_order(
            (vocab, n, rows) in (1usize..70, 1usize..130, 0usize..300), seed in 1u64..1000,
        ) {
            let mut rng = Lcg(seed);
            let (table, dy) = (rng.vec(vocab * n), rng.vec(rows * n));
            let ids: Vec<i64> = (0..rows)
                .map(|_| ((rng.next() + 1.0) / 2.0 * vocab as f32) as i64)
                .collect();
            let (mut y, mut want) = (vec![0.0; rows * n], table.clone());
            embedding_gather(&table, n, &ids, &mut y);
            for (i, &id) in ids.iter().enumerate() {
                let row = id as usize * n;
                assert_eq!(y[i * n..(i + 1) * n], table[row..row + n]);
                for j in 0..n {
                    want[row + j] += dy[i * n + j];
                }
            }
            for threads in [1, 3] {
                let mut sum = table.clone();
                with_threads(threads, || embedding_scatter_add(&mut sum, n, &ids, &dy));
                assert_eq!(sum, want);
            }
        }
    }

    #[test]
    #[should_panic(expected = "id -1 is not one of the 2 rows")]
    fn ids_outside_the_table_are_named() {
        embedding_gather(&[0.0; 2], 1, &[-1], &mut [0.0]);
    }
}
