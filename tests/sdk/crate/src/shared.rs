//! Tasklets that share regions and serve sessions, for modules that a cell runs.

use grafos_collections::{FabricHashMap, FabricVec};
use grafos_rpc::{RpcClient, RpcError, RpcHandler, RpcServer, ARENA_BYTES};
use grafos_std::block::BlockBuilder;
use grafos_std::cpu::CpuBuilder;
use grafos_std::mem::{FabricMem, MemBuilder, MemLease};
use grafos_std::{FabricError, Failure, Json, LeaseRef, Output};
use grafos_stream::{Receiver, Sender, Stage};
use grafos_svc::{Conversation, Listener, Next};
use grafos_sync::{holder_of_run, FabricMutex};

/// The run's own leases, each taken once.
#[grafos_std::tasklet]
pub fn takes() -> Result<Output, FabricError> {
    let memory = MemBuilder::new().min_bytes(1024).acquire()?;
    let blocks = BlockBuilder::new().min_blocks(2).acquire()?;
    let cpu = CpuBuilder::new().cores(1).acquire()?;
    let second = MemBuilder::new().min_bytes(1024).acquire().err();
    let started = cpu.cpu().submit(b"module").launch().err();
    let found = [memory.mem().fetch_add(8, 5)?, memory.mem().compare_exchange(8, 5, 7)?, memory.mem().read_u64(8)?];
    let crooked = memory.mem().fetch_add(4, 1).err();
    blocks.block().write_block(1, &[7; 512])?;
    let named = memory.reference().err();
    let said = format!("{found:?} {second:?} {started:?} {crooked:?} {named:?} {:?}", memory.status()?);
    Ok(Output::json(said))
}

fn attached(input: &Json, name: &str) -> Result<MemLease, Failure> {
    Ok(MemBuilder::new().attach(&LeaseRef::from_json(input.get(name).unwrap_or(&Json::Null))?)?)
}

/// Adds the words of a text to what others have counted in the same region.
#[grafos_std::tasklet]
pub fn counts_words(input: &[u8]) -> Result<Output, Failure> {
    let input = Json::parse(input)?;
    let lease = attached(&input, "region")?;
    let lock = FabricMutex::new(&lease, 0, 0_u32)?;
    let table = lease.mem().window(64, lease.mem().arena_size() - 64)?.persistent(64);
    let mut guard = lock.lock(holder_of_run(), 100)?;
    let mut words: FabricHashMap<String, u64> = FabricHashMap::new(table, 16, 8)?;
    for word in input.get("text").and_then(Json::as_str).unwrap_or_default().split_whitespace() {
        let seen = words.get(&word.to_owned())?.unwrap_or(0);
        words.insert(&word.to_owned(), &(seen + 1))?;
    }
    guard.set(guard.get()? + 1)?;
    let runs = guard.get()?;
    guard.unlock()?;
    let mut all = words.iter().collect::<Result<Vec<_>, _>>()?;
    all.sort();
    let shown: Vec<String> = all.iter().map(|(word, count)| format!("{word} {count}")).collect();
    Ok(Output::json(format!("{runs}: {}", shown.join(", "))).with_bytes(lease.reference()?.to_string()))
}

struct Reversing;

impl RpcHandler for Reversing {
    fn handle(&self, method_id: u32, request: &[u8]) -> Result<Vec<u8>, RpcError> {
        match method_id {
            1 => Ok(request.iter().rev().copied().collect()),
            _ => Err(RpcError::MethodNotSupported),
        }
    }
}

/// Both ends of a call and of a pipeline, and a vector, in one region.
#[grafos_std::tasklet]
pub fn passes_on(input: &[u8]) -> Result<Output, Failure> {
    let lease = attached(&Json::parse(input)?, "region")?;
    let place = |number: u64| -> Result<FabricMem, FabricError> {
        Ok(lease.mem().window(ARENA_BYTES + number * 1024, 1024)?.persistent(64))
    };
    let (mut client, mut server) = (RpcClient::new(&lease)?, RpcServer::new(&lease)?);
    let mut ask = |method, request: &[u8]| {
        let id = client.send(method, request)?;
        server.poll_once(&Reversing)?;
        Ok::<_, RpcError>(client.take(id)?.unwrap_or_default())
    };
    let mut answers: FabricVec<String> = FabricVec::new(place(0)?, 64)?;
    answers.push(&String::from_utf8(ask(1, b"abc")?)?)?;
    answers.push(&ask(2, b"").unwrap_err().to_string())?;
    answers.push(&ask(1, &[0; 1025]).unwrap_err().to_string())?;
    let mut source: Sender<u32> = Sender::new(place(1)?, 8, 32)?;
    source.send_batch(&[1, 2, u32::MAX])?;
    source.finish()?;
    let stage = Stage::new(Receiver::new(place(1)?, 8, 32)?, Sender::new(place(2)?, 8, 32)?, |n: u32| n.checked_mul(2));
    answers.push(&stage.run()?.to_string())?;
    let mut sink: Receiver<u32> = Receiver::new(place(2)?, 8, 32)?;
    answers.push(&format!("{:?}", sink.recv_batch(9)?))?;
    Ok(Output::json(answers.iter().collect::<Result<Vec<_>, _>>()?))
}

struct Upper;

impl Conversation for Upper {
    fn received(&mut self, data: &[u8], answer: &mut Vec<u8>) -> Next {
        answer.extend(data.to_ascii_uppercase());
        Next::GoOn
    }

    fn finished(&mut self, answer: &mut Vec<u8>) {
        answer.push(b'!');
    }
}

/// A service.
#[grafos_std::tasklet]
pub fn serves() -> Result<Output, FabricError> {
    let served = Listener::of_service()?.serve_together(|| Upper)?;
    Ok(Output::json(served))
}
