//! Asks for each method once, and for what is refused.

use grafos_rpc::{RpcClient, RpcError, PAYLOAD_BYTES_MAX};
use grafos_std::{Failure, Output, ToJson};

use crate::arena::{open, ECHO, PING, REVERSE, STOP};

/// Times that it looks for an answer: enough for a server that begins half a minute later. The deadline ends it before.
const PATIENCE: u32 = 10_000_000;
const NO_METHOD: u32 = 99;

#[derive(ToJson)]
struct Answers {
    ping: String,
    echo: String,
    reverse: String,
    unknown: String,
    too_long: String,
    stop: String,
}

#[grafos_std::tasklet]
pub fn client(input: &[u8]) -> Result<Output, Failure> {
    let mut client = RpcClient::new(open(input)?)?.attempts(PATIENCE);
    let mut ask =
        |method, request: &[u8]| client.call(method, request).map(|it| String::from_utf8_lossy(&it).into_owned());
    Ok(Output::json(Answers {
        ping: ask(PING, b"")?,
        echo: ask(ECHO, "grüße".as_bytes())?,
        reverse: ask(REVERSE, b"was it a rat I saw")?,
        unknown: refusal(ask(NO_METHOD, b""))?,
        too_long: refusal(ask(ECHO, &[b'x'; PAYLOAD_BYTES_MAX + 1]))?,
        stop: ask(STOP, b"")?,
    }))
}

/// The words of an answer that must be a refusal.
fn refusal(answer: Result<String, RpcError>) -> Result<String, Failure> {
    match answer {
        Err(error @ (RpcError::MethodNotSupported | RpcError::MessageTooLarge)) => Ok(error.to_string()),
        Err(error) => Err(error.into()),
        Ok(text) => Err(format!("answered: {text}").into()),
    }
}

#[cfg(test)]
mod tests {
    use grafos_rpc::ARENA_BYTES;
    use grafos_std::host::{MockFabric, MockFaults, MockTasklet};

    use super::*;
    use crate::tasklets::server::server;

    #[test]
    fn every_call_is_answered_once_on_links_that_fail() {
        for seed in 0..5 {
            let fabric = MockFabric::new();
            fabric.set_faults(MockFaults { seed, refused_of_1000: 50, answer_lost_of_1000: 50, cut_after_calls: None });
            let region = fabric.reference(fabric.lease_memory(ARENA_BYTES));
            let both = [MockTasklet::new(server), MockTasklet::new(client)];
            let ran = fabric.run_together(seed, both.map(|one| one.input(region.as_bytes())).into());
            assert_eq!(ran[0].response.as_deref(), Some(r#"{"requests":5}"#), "seed {seed}: {}", ran[0].text);
            let answers = r#"{"ping":"pong","echo":"grüße","reverse":"was I tar a ti saw","unknown":"method_not_supported","too_long":"message_too_large","stop":"bye"}"#;
            assert_eq!(ran[1].response.as_deref(), Some(answers), "seed {seed}: {}", ran[1].text);
        }
    }

    #[test]
    fn without_a_region_there_is_nobody_to_ask() {
        let fabric = MockFabric::new();
        let small = fabric.reference(fabric.lease_memory(ARENA_BYTES - 1));
        for (input, text) in [
            ("{", "invalid_input"),
            ("{}", "missing_region"),
            (r#"{"lease_id":"none"}"#, "io_error -22"),
            (&small, "capacity_exceeded"),
        ] {
            let ran = fabric.run(MockTasklet::new(client).input(input.as_bytes()));
            assert_eq!((ran.code, ran.text.as_str()), ("program_error", text));
        }
    }
}
