//! One tasklet for three clouds.

pub mod tasklets {
    pub mod identify;
}
