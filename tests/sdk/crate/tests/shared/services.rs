//! Services and their clients.

use std::io::{BufRead, BufReader, Write};

use grafos_std::host::{self, mock_run, MockFabric, MockTasklet};
use grafos_std::{Context, FabricError, Failure, Output};
use grafos_svc::{Conversation, Listener, Next, Session};

type Tried = Result<Output, Failure>;

/// Answers each line with its length.
fn lengths() -> Tried {
    let served = Listener::bind(8080, 4)?.serve(|session: &mut Session| {
        let mut lines = Vec::new();
        let mut chunk = [0; 5];
        loop {
            match session.read(&mut chunk)? {
                0 => break,
                count => lines.extend_from_slice(&chunk[..count]),
            }
        }
        for line in lines.split(|byte| *byte == b'\n') {
            session.write_all(format!("{} ", line.len()).as_bytes())?;
        }
        Ok(())
    })?;
    Ok(Output::json(served))
}

#[test]
fn sessions_that_wait_are_served_before_a_drained_service_ends() {
    let fabric = MockFabric::new();
    fabric.allow_service(8080, 4);
    let clients: Vec<_> = ["one\nthree", "", "four\n"].map(|text| (fabric.connect(8080).unwrap(), text)).into();
    for (client, text) in &clients {
        client.send(text.as_bytes());
        client.finish();
    }
    fabric.drain(8080);
    assert!(fabric.connect(8080).is_none());
    let ran = fabric.run(MockTasklet::new(|_| lengths()));
    assert_eq!(ran.response.as_deref(), Some("3"), "{}", ran.text);
    let answers: Vec<_> = clients.iter().map(|(client, _)| client.received()).collect();
    assert_eq!(answers, [b"3 5 ".to_vec(), b"0 ".to_vec(), b"4 0 ".to_vec()]);
    assert!(clients.iter().all(|(client, _)| client.is_closed()));
}

#[test]
fn a_client_that_vanishes_ends_its_session_alone() {
    let fabric = MockFabric::new();
    fabric.allow_service(8080, 4);
    let (gone, good) = (fabric.connect(8080).unwrap(), fabric.connect(8080).unwrap());
    gone.send(b"half a wo");
    gone.vanish();
    good.finish();
    fabric.drain(8080);
    let ran = fabric.run(MockTasklet::new(|_| lengths()));
    assert_eq!((ran.response.as_deref(), ran.log.join("\n").as_str()), (Some("2"), "session 0: disconnected"));
    assert_eq!(good.received(), b"0 ");
}

#[test]
fn a_client_on_another_thread_is_waited_for() {
    let fabric = MockFabric::new();
    fabric.allow_service(8080, 4);
    std::thread::scope(|threads| {
        let service = threads.spawn(|| fabric.run(MockTasklet::new(|_| lengths())));
        let client = fabric.connect(8080).unwrap();
        for part in ["spo", "ken\nin ", "parts"] {
            client.send(part.as_bytes());
        }
        client.finish();
        fabric.drain(8080);
        assert_eq!(service.join().unwrap().response.as_deref(), Some("1"));
        assert_eq!(client.received(), b"6 8 ");
    });
}

/// Answers each byte with so many of them, and ends at a zero.
struct Many(usize);

impl Conversation for Many {
    fn received(&mut self, data: &[u8], answer: &mut Vec<u8>) -> Next {
        data.iter().for_each(|byte| answer.extend(std::iter::repeat(*byte).take(self.0)));
        if data.contains(&0) {
            Next::Close
        } else {
            Next::GoOn
        }
    }

    fn finished(&mut self, answer: &mut Vec<u8>) {
        answer.push(b'.');
    }
}

#[test]
fn clients_that_are_open_together_wait_for_none_of_the_others() {
    let fabric = MockFabric::new();
    fabric.allow_service(8080, 4);
    let tasklet = |_: &[u8]| -> Tried { Ok(Output::json(Listener::bind(8080, 4)?.serve_together(|| Many(5000))?)) };
    std::thread::scope(|threads| {
        let service = threads.spawn(|| fabric.run(MockTasklet::new(tasklet)));
        let [silent, quick, gone, done] = [(); 4].map(|()| fabric.connect(8080).unwrap());
        gone.send(b"x");
        gone.vanish();
        done.send(&[0]);
        quick.send(b"ab");
        quick.finish();
        while !(quick.is_closed() && done.is_closed()) {
            std::thread::yield_now();
        }
        assert!(!silent.is_closed()); // it has said nothing all the time
        silent.finish();
        fabric.drain(8080);
        assert_eq!(service.join().unwrap().response.as_deref(), Some("4"));
        assert_eq!(quick.received(), [&[b'a'; 5000][..], &[b'b'; 5000], b"."].concat());
        assert_eq!((done.received(), silent.received()), (vec![0; 5000], b".".to_vec()));
    });
}

#[test]
fn a_service_listens_as_its_context_says() {
    host::reset_mock();
    assert_eq!(Listener::of_service().err(), Some(FabricError::Unsupported));
    let told = br#"{"service":{"name":"echo","port":8080,"max_sessions":3,"instance_id":"inst-1","generation":2}}"#;
    let context = Context::from_json(told).unwrap();
    assert_eq!(context.service.as_ref().map(|service| (service.max_sessions, service.generation)), Some((3, 2)));
    host::mock_set_context(&context);
    host::mock_fabric().allow_service(8080, 3);
    assert!(Listener::of_service().is_ok());
    assert_eq!(Context::from_json(br#"{"service":{"port":65536}}"#).unwrap().service, None);
}

#[test]
fn only_a_service_listens_and_only_where_it_may() {
    host::reset_mock();
    assert_eq!(mock_run(|_| lengths(), b"").text, "unsupported");
    host::mock_fabric().allow_service(8080, 4);
    assert_eq!(Listener::bind(8080, 5).err(), Some(FabricError::CapacityExceeded));
    assert_eq!(Listener::bind(81, 1).err(), Some(FabricError::CapacityExceeded));
    assert_eq!(Listener::bind(8080, 0).err(), Some(FabricError::IoError(-22)));
    assert!(Listener::bind(8080, 4).is_ok());
    assert_eq!(Listener::bind(8080, 4).err(), Some(FabricError::CapacityExceeded));
    for answer in [host::svc_listen(7, 8080, 1), host::svc_accept(9), host::svc_read(0, &mut [0]), host::svc_close(2)] {
        assert_eq!(answer, -22);
    }
}

#[test]
fn a_session_reads_and_writes_as_the_standard_library_has_it() {
    let fabric = MockFabric::new();
    fabric.allow_service(8080, 4);
    let client = fabric.connect(8080).unwrap();
    client.send(b"first\nsecond\n");
    client.finish();
    let ran = fabric.run(MockTasklet::new(|_| -> Tried {
        let listener = Listener::bind(8080, 1)?;
        let mut session = listener.accept()?.expect("a client waits");
        let lines: Vec<String> = BufReader::new(&mut session).lines().collect::<Result<_, _>>()?;
        let long = lines.join("+").repeat(1000);
        session.write_all(long.as_bytes())?; // more than one write takes
        Write::flush(&mut session)?;
        session.close()?;
        Ok(Output::empty())
    }));
    assert_eq!(ran.text, "");
    assert_eq!(client.received(), "first+second".repeat(1000).as_bytes());
}

#[test]
fn a_client_that_takes_nothing_stops_its_own_session_and_no_other() {
    const ALL: usize = 1 << 20;
    let fabric = MockFabric::new();
    fabric.allow_service(8080, 4);
    let tasklet = |_: &[u8]| -> Tried { Ok(Output::json(Listener::bind(8080, 4)?.serve_together(|| Many(ALL))?)) };
    std::thread::scope(|threads| {
        let service = threads.spawn(|| fabric.run(MockTasklet::new(tasklet).fuel(1 << 30)));
        let [slow, quick] = [(); 2].map(|()| fabric.connect(8080).unwrap());
        slow.send(&[0]);
        quick.send(&[0]);
        let mut came = 0;
        while !quick.is_closed() {
            came += quick.received().len();
        }
        assert_eq!(came + quick.received().len(), ALL);
        assert!(!slow.is_closed());
        let waits = slow.received().len();
        assert!(waits <= 256 * 1024, "{waits} bytes were under way");
        came = waits;
        while !slow.is_closed() {
            came += slow.received().len();
        }
        assert_eq!(came + slow.received().len(), ALL);
        fabric.drain(8080);
        assert_eq!(service.join().unwrap().response.as_deref(), Some("2"));
    });
}

#[test]
fn whoever_is_one_too_many_is_turned_away() {
    let fabric = MockFabric::new();
    fabric.allow_service(8080, 4);
    let early = [(); 3].map(|()| fabric.connect(8080).unwrap());
    let ran = fabric.run(MockTasklet::new(|_| -> Tried {
        let listener = Listener::bind(8080, 2)?;
        let first = listener.accept()?.expect("a client waits");
        assert!(fabric.connect(8080).unwrap().is_refused(), "one is open and one waits");
        first.close()?;
        assert!(!fabric.connect(8080).unwrap().is_refused());
        fabric.drain(8080);
        Ok(Output::json(listener.serve(|_| Ok(()))?))
    }));
    assert_eq!((ran.response.as_deref(), ran.text.as_str()), (Some("2"), ""));
    assert_eq!(early.map(|client| client.is_refused()), [false, false, true]);
}
