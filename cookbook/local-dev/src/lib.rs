//! The program that the inner loop is tried with.

pub mod tasklets {
    pub mod local_dev;
}
