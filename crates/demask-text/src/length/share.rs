//! How the steps of an answer are shared out among its blocks.

/// The steps of each block: in proportion to its open cells, what is left over to those that lost
/// most by rounding, the first among equals. A block with open cells gets at least one step, a block
/// without any gets none, whatever `steps` is.
pub(crate) fn share(steps: usize, cells: &[usize]) -> Vec<usize> {
    let total = cells.iter().sum::<usize>().max(1) as u128;
    // Any number of steps may be asked for; the product of two numbers fits into 128 bits.
    let product = |cells: usize| steps as u128 * cells as u128;
    let mut shares: Vec<usize> = cells
        .iter()
        .map(|&c| (product(c) / total) as usize)
        .collect();
    let mut order: Vec<usize> = (0..cells.len()).filter(|&b| cells[b] > 0).collect();
    order.sort_by_key(|&b| (std::cmp::Reverse(product(cells[b]) % total), b));
    let left = steps.saturating_sub(shares.iter().sum());
    order.iter().take(left).for_each(|&b| shares[b] += 1);
    // The least step of a small block is taken from the largest share.
    for b in 0..cells.len() {
        if cells[b] > 0 && shares[b] == 0 {
            shares[b] = 1;
            let largest = (0..shares.len()).rev().max_by_key(|&b| shares[b]);
            if let Some(largest) = largest.filter(|&b| shares[b] > 1) {
                shares[largest] -= 1;
            }
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_blocks_share_evenly_and_the_remainder_goes_first() {
        assert_eq!(share(6, &[4, 4, 4]), [2, 2, 2]);
        assert_eq!(share(7, &[4, 4, 4]), [3, 2, 2]);
        assert_eq!(share(6, &[4; 4]), [2, 2, 1, 1]);
    }

    #[test]
    fn any_number_of_steps_is_shared_out() {
        assert_eq!(share(usize::MAX, &[4]), [usize::MAX]);
        // 2^64 - 1 is a multiple of 3.
        assert_eq!(
            share(usize::MAX, &[4, 8]),
            [usize::MAX / 3, usize::MAX / 3 * 2]
        );
        assert_eq!(share(1 << 63, &[1, 1]), [1 << 62, 1 << 62]);
    }

    #[test]
    fn blocks_without_open_cells_get_none() {
        // A step a cell stays one.
        assert_eq!(share(12, &[5, 0, 1, 6, 0]), [5, 0, 1, 6, 0]);
        assert_eq!(share(6, &[5, 0, 1, 6, 0]), [2, 0, 1, 3, 0]);
        assert_eq!(share(3, &[]), [0; 0]);
        assert_eq!(share(3, &[0]), [0]);
    }

    #[test]
    fn every_open_block_gets_one() {
        assert_eq!(share(2, &[4, 4, 4]), [1, 1, 1]);
        // 3.6, 0.2, 0.2: the small ones cost the large one.
        assert_eq!(share(4, &[18, 1, 1]), [2, 1, 1]);
        for steps in 1..40 {
            let shares = share(steps, &[9, 1, 0, 3, 30]);
            assert_eq!(
                shares.iter().sum::<usize>(),
                steps.max(4),
                "{steps}: {shares:?}"
            );
            assert_eq!(shares[2], 0);
        }
    }
}
