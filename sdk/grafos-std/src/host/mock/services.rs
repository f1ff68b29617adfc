//! The sessions of services, and who speaks with them.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::fabric::{MockFabric, State};
use super::{turn_of, CAPACITY_EXCEEDED, DISCONNECTED, INVALID, UNSUPPORTED};

/// What `svc_accept` answers when no more sessions will come.
const DRAINING: i32 = -9;
/// The listener lease of an instance.
const OWN_LISTENER: u32 = 0;
/// Bytes that one write takes at most, so that programs meet writes that take less than all.
const WRITE_BYTES_MAX: usize = 4096;
/// How long a thread waits for another one before it gives up; in a test nobody is this slow.
const WAIT_S_MAX: u64 = 30;

#[derive(Default)]
pub(super) struct Services {
    ports: HashMap<u32, Port>,
    sessions: Vec<Session>,
}

#[derive(Default)]
struct Port {
    max_sessions: u32,
    is_listening: bool,
    is_draining: bool,
    /// Sessions that were not accepted yet.
    pending: VecDeque<usize>,
}

#[derive(Default)]
struct Session {
    to_guest: VecDeque<u8>,
    from_guest: Vec<u8>,
    peer_is_done: bool,
    peer_is_gone: bool,
    guest_is_done: bool,
}

/// A client's end of a session with a service in a mock fabric.
#[derive(Clone)]
pub struct MockSession {
    fabric: MockFabric,
    number: usize,
}

impl MockFabric {
    /// Tasklets may listen on this port from now on, for at most so many sessions at a time.
    pub fn allow_service(&self, port: u16, max_sessions: u32) {
        let fresh = Port { max_sessions, ..Port::default() };
        self.state().services.ports.insert(u32::from(port), fresh);
    }

    /// A client that connects to that port, also before anybody listens there. `None` where no service may be.
    pub fn connect(&self, port: u16) -> Option<MockSession> {
        let mut state = self.state();
        let number = state.services.sessions.len();
        let port = state.services.ports.get_mut(&u32::from(port)).filter(|port| !port.is_draining)?;
        port.pending.push_back(number);
        state.services.sessions.push(Session::default());
        drop(state);
        self.changed().notify_all();
        Some(MockSession { fabric: self.clone(), number })
    }

    /// Lets no new session begin there. Those that have begun, or that wait to be accepted, go on.
    pub fn drain(&self, port: u16) {
        if let Some(port) = self.state().services.ports.get_mut(&u32::from(port)) {
            port.is_draining = true;
        }
        self.changed().notify_all();
    }
}

impl MockSession {
    fn change<T>(&self, act: impl FnOnce(&mut Session) -> T) -> T {
        let done = act(&mut self.fabric.state().services.sessions[self.number]);
        self.fabric.changed().notify_all();
        done
    }

    /// Sends bytes to the service.
    pub fn send(&self, data: &[u8]) {
        self.change(|session| session.to_guest.extend(data));
    }

    /// Says that no more bytes will come.
    pub fn finish(&self) {
        self.change(|session| session.peer_is_done = true);
    }

    /// Is gone without a word; the service's calls on the session answer `Disconnected`.
    pub fn vanish(&self) {
        self.change(|session| session.peer_is_gone = true);
    }

    /// What the service has sent so far; it is taken.
    pub fn received(&self) -> Vec<u8> {
        self.change(|session| std::mem::take(&mut session.from_guest))
    }

    /// Whether the service has closed the session.
    pub fn is_closed(&self) -> bool {
        self.change(|session| session.guest_is_done)
    }
}

/// Asks until there is an answer, while other threads change the state.
fn waited<T>(fabric: &MockFabric, mut ask: impl FnMut(&mut State) -> Option<T>) -> T {
    loop {
        let mut state = fabric.state();
        if let Some(answer) = ask(&mut state) {
            drop(state);
            fabric.changed().notify_all();
            return answer;
        }
        if state.turns.is_some() {
            drop(state);
            turn_of(fabric, true);
            continue;
        }
        let limit = Duration::from_secs(WAIT_S_MAX);
        let waited = fabric.changed().wait_timeout(state, limit).unwrap_or_else(|broken| broken.into_inner());
        assert!(
            !waited.1.timed_out(),
            "a service waits and no client does anything: drain the port, or finish the session"
        );
    }
}

impl Services {
    /// A session that the guest may still use.
    fn session(&mut self, number: u32) -> Result<&mut Session, i32> {
        let session = self.sessions.get_mut(number as usize).filter(|session| !session.guest_is_done).ok_or(INVALID)?;
        if session.peer_is_gone {
            return Err(DISCONNECTED);
        }
        Ok(session)
    }
}

pub(super) fn listen(fabric: &MockFabric, cap: u32, port: u32, max_sessions: u32) -> Result<i32, i32> {
    let mut state = fabric.state();
    if cap != OWN_LISTENER {
        return Err(INVALID);
    }
    let place = state.services.ports.get_mut(&port).ok_or(UNSUPPORTED)?;
    if place.is_listening || max_sessions > place.max_sessions {
        return Err(CAPACITY_EXCEEDED);
    }
    place.is_listening = true;
    Ok(port as i32)
}

pub(super) fn accept(fabric: &MockFabric, listener: u32) -> i32 {
    waited(fabric, |state| {
        let Some(port) = state.services.ports.get_mut(&listener).filter(|port| port.is_listening) else {
            return Some(INVALID);
        };
        match port.pending.pop_front() {
            Some(number) => Some(number as i32),
            None => port.is_draining.then_some(DRAINING),
        }
    })
}

pub(super) fn read(fabric: &MockFabric, session: u32, into: &mut [u8]) -> i32 {
    waited(fabric, |state| {
        let session = match state.services.session(session) {
            Ok(session) => session,
            Err(status) => return Some(status),
        };
        if session.to_guest.is_empty() && !session.peer_is_done && !into.is_empty() {
            return None;
        }
        let count = into.len().min(session.to_guest.len());
        into.iter_mut().zip(session.to_guest.drain(..count)).for_each(|(place, byte)| *place = byte);
        Some(count as i32)
    })
}

pub(super) fn write(fabric: &MockFabric, session: u32, data: &[u8]) -> Result<i32, i32> {
    let mut state = fabric.state();
    let session = state.services.session(session)?;
    let count = data.len().min(WRITE_BYTES_MAX);
    session.from_guest.extend_from_slice(&data[..count]);
    drop(state);
    fabric.changed().notify_all();
    Ok(count as i32)
}

pub(super) fn close(fabric: &MockFabric, session: u32) -> i32 {
    let mut state = fabric.state();
    let sessions = &mut state.services.sessions;
    match sessions.get_mut(session as usize).filter(|session| !session.guest_is_done) {
        Some(session) => session.guest_is_done = true,
        None => return INVALID,
    }
    drop(state);
    fabric.changed().notify_all();
    0
}
