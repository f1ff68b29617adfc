//! A web server that is kept alive on several cells.

pub mod http;

pub mod tasklets {
    pub mod web;
}
