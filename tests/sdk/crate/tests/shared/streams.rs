//! Pipelines.

use grafos_std::host::{MockFabric, MockFaults, MockLease, MockTasklet};
use grafos_std::mem::FabricMem;
use grafos_std::{Failure, Output};
use grafos_stream::{bytes_of_edge, Receiver, Sender, Stage, StreamError};

type Tried = Result<Output, Failure>;

const SLOT_BYTES: u64 = 48;

fn sender<T: grafos_std::Wire>(slot: u32, slots: u64) -> Result<Sender<T>, Failure> {
    Ok(Sender::new(FabricMem::slot(slot)?, slots, SLOT_BYTES)?)
}

fn receiver<T: grafos_std::Wire>(slot: u32, slots: u64) -> Result<Receiver<T>, Failure> {
    Ok(Receiver::new(FabricMem::slot(slot)?, slots, SLOT_BYTES)?)
}

/// Ten thousands and more, of which a stage drops every third; what arrives is shown.
fn pipeline(fabric: &MockFabric, slots: u64) -> (Vec<MockTasklet<'static>>, [MockLease; 2]) {
    let edges = [(); 2].map(|()| fabric.lease_memory(bytes_of_edge(slots, SLOT_BYTES).unwrap()));
    let source = move |_: &[u8]| -> Tried {
        let mut to = sender::<u64>(0, slots)?;
        for number in to.next()?..10 {
            to.send(&(number * 1000))?;
        }
        to.finish()?;
        Ok(Output::empty())
    };
    let middle = move |_: &[u8]| -> Tried {
        let keep = |number: u64| (number % 3 != 0).then(|| number.to_string());
        let count = Stage::new(receiver::<u64>(0, slots)?, sender::<String>(1, slots)?, keep).run()?;
        Ok(Output::json(count))
    };
    let sink = move |_: &[u8]| -> Tried {
        let mut from = receiver::<String>(0, slots)?;
        let mut all = from.recv_batch(2)?;
        while let Some(chunk) = from.recv()? {
            all.push(chunk);
        }
        assert_eq!(from.recv_batch(2)?.len(), 0);
        Ok(Output::bytes(all.join(" ")))
    };
    let tasklets = vec![
        MockTasklet::new(source).leases(&edges[..1]),
        MockTasklet::new(middle).leases(&edges),
        MockTasklet::new(sink).leases(&edges[1..]),
    ];
    (tasklets, edges)
}

const ARRIVES: &[u8] = b"1000 2000 4000 5000 7000 8000";

#[test]
fn stages_side_by_side_keep_the_order_on_links_that_fail() {
    for seed in 0..10 {
        let fabric = super::failing(seed);
        let ran = fabric.run_together(seed, pipeline(&fabric, 3).0);
        assert_eq!(ran[2].output, ARRIVES, "seed {seed}: {}", ran[2].text);
        assert_eq!(ran[1].response.as_deref(), Some("10"));
    }
}

#[test]
fn stages_one_after_the_other_need_room_for_all() {
    let fabric = MockFabric::new();
    let mut last = None;
    for tasklet in pipeline(&fabric, 16).0 {
        last = Some(fabric.run(tasklet));
    }
    assert_eq!(last.unwrap().output, ARRIVES);
    let small = MockFabric::new();
    let (mut tasklets, _) = pipeline(&small, 3);
    assert_eq!(small.run(tasklets.remove(0)).text, "stream_waited");
}

#[test]
fn a_stage_that_is_stopped_anywhere_and_run_again_neither_loses_nor_doubles() {
    let mut ended = Vec::new();
    for calls in 0..400 {
        let fabric = MockFabric::new();
        let (mut tasklets, edges) = pipeline(&fabric, 16);
        fabric.run(tasklets.remove(0));
        let keep = |number: u64| (number % 3 != 0).then(|| number.to_string());
        let stopped = |_: &[u8]| -> Tried {
            Stage::new(receiver::<u64>(0, 16)?, sender::<String>(1, 16)?, keep).run()?;
            Ok(Output::empty())
        };
        fabric.set_faults(MockFaults { cut_after_calls: Some(calls), ..MockFaults::default() });
        ended.push(fabric.run(MockTasklet::new(stopped).leases(&edges)).code);
        fabric.set_faults(MockFaults::default());
        assert_eq!(fabric.run(tasklets.remove(0)).text, "");
        assert_eq!(fabric.run(tasklets.remove(0)).output, ARRIVES, "stopped after {calls} calls");
    }
    assert_eq!((ended[0], ended[399]), ("program_error", "finished"));
}

#[test]
fn who_waits_in_vain_is_told() {
    let fabric = MockFabric::new();
    let edge = fabric.lease_memory(bytes_of_edge(2, SLOT_BYTES).unwrap());
    let ran = fabric.run(
        MockTasklet::new(|_| -> Tried {
            let mut from = receiver::<u64>(0, 2)?.waits(5);
            let mut to = sender::<u64>(0, 2)?.waits(5);
            assert_eq!(from.recv(), Err(StreamError::Waited));
            assert_eq!(to.send_batch(&[1, 2]), Err(StreamError::Waited));
            assert_eq!((to.next()?, from.recv()?), (1, Some(1)));
            Ok(Output::empty())
        })
        .leases(&[edge]),
    );
    assert_eq!((ran.code, ran.text.as_str()), ("finished", ""));
}
