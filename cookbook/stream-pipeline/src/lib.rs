//! Three stages, and the memory between them.

pub mod edges;

pub mod tasklets {
    pub mod double;
    pub mod sink;
    pub mod source;
}

#[cfg(test)]
mod stopped;
