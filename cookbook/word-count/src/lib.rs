//! One word count, in memory of one cell, by tasklets on two clouds.

pub mod shared;

pub mod tasklets {
    pub mod count;
    pub mod total;
}

#[cfg(test)]
mod history;
