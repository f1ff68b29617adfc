//! The tasklets of this program, each a function in a file of its own. grafos.toml names the same.

mod tasklets {
    mod count;
}
