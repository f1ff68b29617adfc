//! Two tasklets in one crate; each becomes a module of its own.

pub mod tasklets {
    pub mod count_words;
    pub mod hello;
}
