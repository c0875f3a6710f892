//! Tasks with an exact answer: generators and scorers.
//!
//! | task | file | what it asks |
//! |---|---|---|
//! | sudoku | [`sudoku`] | the one completion of a grid; the order of writing matters |

pub mod sudoku;
