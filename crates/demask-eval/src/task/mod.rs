//! Tasks with an exact answer: generators and scorers.
//!
//! | task | file | what it asks |
//! |---|---|---|
//! | classes | [`classes`] | a text of a class, judged by its words |
//! | sudoku | [`sudoku`] | the one completion of a grid; the order of writing matters |

pub mod classes;
pub mod sudoku;
