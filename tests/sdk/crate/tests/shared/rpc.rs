//! Requests and responses.

use std::cell::Cell;

use grafos_rpc::{RpcClient, RpcError, RpcHandler, RpcServer, ARENA_BYTES, PAYLOAD_BYTES_MAX};
use grafos_std::host::{MockFabric, MockTasklet};
use grafos_std::mem::FabricMem;
use grafos_std::{FabricError, Failure, Output};

type Tried = Result<Output, Failure>;

const PING: u32 = 1;
const ECHO: u32 = 2;
const GROW: u32 = 3;
const FAIL: u32 = 4;

#[derive(Default)]
struct Handler {
    handled: Cell<u32>,
}

impl RpcHandler for Handler {
    fn handle(&self, method_id: u32, request: &[u8]) -> Result<Vec<u8>, RpcError> {
        self.handled.set(self.handled.get() + 1);
        match method_id {
            PING => Ok(b"pong".to_vec()),
            ECHO => Ok(request.to_vec()),
            GROW => Ok(vec![0; PAYLOAD_BYTES_MAX + 1]),
            FAIL => Err(RpcError::Failed("x".repeat(2000))),
            _ => Err(RpcError::MethodNotSupported),
        }
    }
}

#[test]
fn each_request_has_its_answer_and_a_wrong_one_its_error() {
    let fabric = MockFabric::new();
    let arena = fabric.lease_memory(ARENA_BYTES);
    let ran = fabric.run(
        MockTasklet::new(|_| -> Tried {
            let mem = FabricMem::hello()?;
            let (mut client, mut server) = (RpcClient::new(mem)?.attempts(3), RpcServer::new(mem)?);
            let mut ask = |method, request: &[u8]| {
                let id = client.send(method, request)?;
                assert_eq!(client.take(id)?, None);
                assert_eq!(client.send(PING, b"").err(), Some(RpcError::Busy));
                assert!(server.poll_once(&Handler::default())?);
                assert!(!server.poll_once(&Handler::default())?);
                client.take(id).map(Option::unwrap)
            };
            assert_eq!(ask(PING, b"")?, b"pong");
            assert_eq!(ask(ECHO, &[7; PAYLOAD_BYTES_MAX])?, [7; PAYLOAD_BYTES_MAX]);
            assert_eq!(ask(9, b"").unwrap_err(), RpcError::MethodNotSupported);
            assert_eq!(ask(GROW, b"").unwrap_err(), RpcError::MessageTooLarge);
            assert_eq!(ask(FAIL, b"").unwrap_err(), RpcError::Failed("x".repeat(PAYLOAD_BYTES_MAX)));
            assert_eq!(client.send(ECHO, &[0; PAYLOAD_BYTES_MAX + 1]).unwrap_err(), RpcError::MessageTooLarge);
            assert_eq!(client.call(PING, b"").unwrap_err(), RpcError::NoAnswer);
            assert!(client.abandon()?, "nobody had begun with it");
            assert!(!client.abandon()?, "there is none any more");
            assert!(!server.poll_once(&Handler::default())?);
            assert_eq!(client.call(PING, b"").unwrap_err(), RpcError::NoAnswer);
            Ok(Output::empty())
        })
        .leases(&[arena]),
    );
    assert_eq!((ran.code, ran.text.as_str()), ("finished", ""));
}

#[test]
fn an_arena_has_its_size_and_its_bytes() {
    let fabric = MockFabric::new();
    let leases = [fabric.lease_memory(ARENA_BYTES - 1), fabric.lease_memory(ARENA_BYTES)];
    fabric.run(
        MockTasklet::new(|_| -> Tried {
            let small = RpcClient::new(FabricMem::slot(0)?);
            assert_eq!(small.err(), Some(RpcError::Fabric(FabricError::CapacityExceeded)));
            RpcClient::new(FabricMem::slot(1)?)?.send(ECHO, b"abc")?;
            Ok(Output::empty())
        })
        .leases(&leases),
    );
    let bytes = fabric.bytes_of(leases[1]);
    assert_eq!(bytes[..20], [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 3, 0, 0, 0, b'a', b'b', b'c']);
    let ran = fabric.run(
        MockTasklet::new(|_| -> Tried {
            FabricMem::slot(1)?.write(13, &[0xff; 4])?; // a length that no message has
            let broken = RpcServer::new(FabricMem::slot(1)?)?.poll_once(&Handler::default());
            assert_eq!(broken, Err(RpcError::Fabric(FabricError::IoError(-200))));
            Ok(Output::empty())
        })
        .leases(&leases),
    );
    assert_eq!((ran.code, ran.text.as_str()), ("finished", ""));
}

#[test]
fn a_request_is_handled_once_on_links_that_fail() {
    const CALLS: u32 = 15;
    for seed in 0..10 {
        let fabric = super::failing(seed);
        let arena = fabric.lease_memory(ARENA_BYTES);
        let server = |_: &[u8]| -> Tried {
            let (mut server, handler) = (RpcServer::new(FabricMem::hello()?)?, Handler::default());
            let mut served = 0;
            for _ in 0..1_000_000 {
                served += u32::from(server.poll_once(&handler)?);
                if served == CALLS {
                    break;
                }
            }
            Ok(Output::json(handler.handled.get()))
        };
        let client = |_: &[u8]| -> Tried {
            let mut client = RpcClient::new(FabricMem::hello()?)?.attempts(1_000_000);
            for number in 0..CALLS {
                assert_eq!(client.call(ECHO, &number.to_le_bytes())?, number.to_le_bytes(), "seed {seed}");
            }
            Ok(Output::empty())
        };
        let both = vec![MockTasklet::new(server).leases(&[arena]), MockTasklet::new(client).leases(&[arena])];
        let ran = fabric.run_together(seed, both);
        assert_eq!((ran[0].text.as_str(), ran[1].text.as_str()), ("", ""), "seed {seed}");
        assert_eq!(ran[0].response.as_deref(), Some("15"), "seed {seed}");
    }
}

/// Notes the requests that it handles.
#[derive(Default)]
struct Noting {
    handled: Cell<Vec<u32>>,
}

impl RpcHandler for Noting {
    fn handle(&self, _method_id: u32, request: &[u8]) -> Result<Vec<u8>, RpcError> {
        let mut handled = self.handled.take();
        handled.push(u32::from_le_bytes(request.try_into().unwrap()));
        self.handled.set(handled);
        Ok(request.to_vec())
    }
}

#[test]
fn what_was_given_up_before_a_server_began_is_never_handled_and_nothing_is_handled_twice() {
    const CALLS: u32 = 40;
    const LAST: u32 = u32::MAX;
    let (mut given_up, mut begun) = (0, 0);
    for seed in 0..20 {
        let fabric = super::failing(seed);
        let arena = fabric.lease_memory(ARENA_BYTES);
        let server = |_: &[u8]| -> Tried {
            let (mut server, noting) = (RpcServer::new(FabricMem::hello()?)?, Noting::default());
            let mut all = Vec::new();
            while all.last() != Some(&LAST) {
                server.poll_once(&noting)?;
                all = noting.handled.take();
                noting.handled.set(all.clone());
            }
            Ok(Output::json(all))
        };
        let client = |_: &[u8]| -> Tried {
            let mut client = RpcClient::new(FabricMem::hello()?)?.attempts(1_000_000);
            let mut never = Vec::new();
            for number in 0..CALLS {
                client.send(ECHO, &number.to_le_bytes())?;
                if client.abandon()? {
                    never.push(number);
                }
            }
            assert_eq!(client.call(ECHO, &LAST.to_le_bytes())?, LAST.to_le_bytes(), "seed {seed}");
            Ok(Output::json(never))
        };
        let both = vec![MockTasklet::new(server).leases(&[arena]), MockTasklet::new(client).leases(&[arena])];
        let ran = fabric.run_together(seed, both);
        assert_eq!((ran[0].text.as_str(), ran[1].text.as_str()), ("", ""), "seed {seed}");
        let numbers = |place: usize| -> Vec<u64> {
            let told = grafos_std::Json::parse(ran[place].response.as_ref().unwrap().as_bytes()).unwrap();
            told.as_list().unwrap().iter().map(|number| number.as_u64().unwrap()).collect()
        };
        let (handled, never) = (numbers(0), numbers(1));
        assert!(handled.windows(2).all(|two| two[0] < two[1]), "seed {seed}: twice, or out of order: {handled:?}");
        assert!(!handled.iter().any(|number| never.contains(number)), "seed {seed}: {handled:?} {never:?}");
        given_up += never.len();
        begun += handled.len() - 1;
    }
    assert!(given_up > 100 && begun > 20, "{given_up} {begun}");
}
