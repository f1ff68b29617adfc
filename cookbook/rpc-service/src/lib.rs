//! A server and a client that speak over memory that both share.

pub mod arena;

pub mod tasklets {
    pub mod client;
    pub mod server;
}
