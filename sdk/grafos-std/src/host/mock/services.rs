//! The sessions of services, and who speaks with them.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::fabric::{MockFabric, State};
use super::{turn_of, CAPACITY_EXCEEDED, DISCONNECTED, INVALID, UNSUPPORTED};

/// What `svc_accept` answers when no more sessions will come.
const DRAINING: i32 = -9;
/// The listener lease of an instance.
const OWN_LISTENER: u32 = 0;
/// The listener; sessions are counted from the next number on.
const LISTENER_HANDLE: u32 = 1;
const FIRST_SESSION: u32 = 2;
/// Bytes that a client has not taken, at most: then a write waits, as it does in a cell.
const WINDOW_BYTES: usize = 256 * 1024;
/// Bytes that one write takes at most, so that programs meet writes that take less than all.
const WRITE_BYTES_MAX: usize = 4096;
/// How long a thread waits for another one before it gives up; in a test nobody is this slow.
const WAIT_S_MAX: u64 = 30;

#[derive(Default)]
pub(super) struct Services {
    ports: HashMap<u32, Port>,
    sessions: Vec<Session>,
    /// The session that `svc_wait` looks at first, so that each has its turn.
    first: usize,
}

#[derive(Default)]
struct Port {
    max_sessions: u32,
    /// What the service said when it began to listen; 0 before.
    open_max: usize,
    is_listening: bool,
    is_draining: bool,
}

#[derive(Default)]
struct Session {
    to_guest: VecDeque<u8>,
    from_guest: Vec<u8>,
    port: u32,
    is_accepted: bool,
    is_short: bool,
    is_refused: bool,
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
        let port = u32::from(port);
        state.services.ports.get(&port).filter(|port| !port.is_draining)?;
        state.services.sessions.push(Session { port, ..Session::default() });
        state.services.refuse_too_many(port);
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

    /// Whether it was one too many: the service had as many open as it had said.
    pub fn is_refused(&self) -> bool {
        self.change(|session| session.is_refused)
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

impl Session {
    /// Whether it waits to be accepted on that port.
    fn waits_at(&self, port: u32) -> bool {
        self.port == port && !self.is_accepted && !self.is_refused
    }

    fn is_open(&self) -> bool {
        self.is_accepted && !self.guest_is_done
    }

    /// Whether a call on it would not wait: after a short write one that writes, else one that reads.
    fn is_ready(&self) -> bool {
        let has_room = self.from_guest.len() < WINDOW_BYTES;
        self.peer_is_gone || if self.is_short { has_room } else { self.peer_is_done || !self.to_guest.is_empty() }
    }
}

impl Services {
    /// A session that the guest may still use.
    fn session(&mut self, handle: u32) -> Result<&mut Session, i32> {
        let number = handle.checked_sub(FIRST_SESSION).ok_or(INVALID)?;
        let session = self.sessions.get_mut(number as usize).filter(|session| session.is_open()).ok_or(INVALID)?;
        if session.peer_is_gone {
            return Err(DISCONNECTED);
        }
        Ok(session)
    }

    /// The port on which a tasklet listens, and whether it is drained.
    fn listening(&self, listener: u32) -> Result<(u32, bool), i32> {
        let mut ports = self.ports.iter().filter(|(_, port)| port.is_listening && listener == LISTENER_HANDLE);
        ports.next().map(|(number, port)| (*number, port.is_draining)).ok_or(INVALID)
    }

    /// The session that has waited longest to be accepted there.
    fn pending(&self, port: u32) -> Option<usize> {
        self.sessions.iter().position(|session| session.waits_at(port))
    }

    /// Turns those away that came when as many were open as the service has said, the newest first.
    fn refuse_too_many(&mut self, port: u32) {
        let most = self.ports.get(&port).map_or(0, |port| port.open_max);
        if most == 0 {
            return; // nobody listens yet
        }
        let open = self.sessions.iter().filter(|session| session.port == port && session.is_open()).count();
        let waiting = self.sessions.iter_mut().filter(|session| session.waits_at(port));
        waiting.skip(most.saturating_sub(open)).for_each(|session| session.is_refused = true);
    }
}

pub(super) fn listen(fabric: &MockFabric, cap: u32, port: u32, max_sessions: u32) -> Result<i32, i32> {
    let services = &mut fabric.state().services;
    if services.ports.is_empty() {
        return Err(UNSUPPORTED);
    }
    if cap != OWN_LISTENER || max_sessions == 0 {
        return Err(INVALID);
    }
    let is_listening = services.listening(LISTENER_HANDLE).is_ok();
    let place = services.ports.get_mut(&port).ok_or(CAPACITY_EXCEEDED)?;
    if is_listening || max_sessions > place.max_sessions {
        return Err(CAPACITY_EXCEEDED);
    }
    (place.is_listening, place.open_max) = (true, max_sessions as usize);
    services.refuse_too_many(port);
    Ok(LISTENER_HANDLE as i32)
}

pub(super) fn wait(fabric: &MockFabric, listener: u32) -> i32 {
    waited(fabric, |state| {
        let services = &mut state.services;
        let (port, is_draining) = match services.listening(listener) {
            Ok(found) => found,
            Err(status) => return Some(status),
        };
        if services.pending(port).is_some() {
            return Some(LISTENER_HANDLE as i32);
        }
        let count = services.sessions.len();
        let mut turns = (0..count).map(|step| (services.first + step) % count);
        let ready = turns.find(|number| services.sessions[*number].is_open() && services.sessions[*number].is_ready());
        if let Some(number) = ready {
            services.first = number + 1;
            return Some(number as i32 + FIRST_SESSION as i32);
        }
        (is_draining && !services.sessions.iter().any(Session::is_open)).then_some(DRAINING)
    })
}

pub(super) fn accept(fabric: &MockFabric, listener: u32) -> i32 {
    waited(fabric, |state| {
        let (port, is_draining) = match state.services.listening(listener) {
            Ok(found) => found,
            Err(status) => return Some(status),
        };
        let Some(number) = state.services.pending(port) else { return is_draining.then_some(DRAINING) };
        state.services.sessions[number].is_accepted = true;
        Some(number as i32 + FIRST_SESSION as i32)
    })
}

pub(super) fn read(fabric: &MockFabric, session: u32, into: &mut [u8]) -> i32 {
    waited(fabric, |state| {
        let session = match state.services.session(session) {
            Ok(_) if into.is_empty() => return Some(INVALID),
            Ok(session) => session,
            Err(status) => return Some(status),
        };
        if session.to_guest.is_empty() && !session.peer_is_done {
            return None;
        }
        let count = into.len().min(session.to_guest.len());
        into.iter_mut().zip(session.to_guest.drain(..count)).for_each(|(place, byte)| *place = byte);
        Some(count as i32)
    })
}

pub(super) fn write(fabric: &MockFabric, session: u32, data: &[u8]) -> i32 {
    waited(fabric, |state| {
        let session = match state.services.session(session) {
            Ok(session) => session,
            Err(status) => return Some(status),
        };
        let room = WINDOW_BYTES - session.from_guest.len();
        let count = data.len().min(WRITE_BYTES_MAX).min(room);
        if count == 0 && !data.is_empty() {
            return None;
        }
        session.from_guest.extend_from_slice(&data[..count]);
        session.is_short = count < data.len();
        Some(count as i32)
    })
}

pub(super) fn close(fabric: &MockFabric, session: u32) -> i32 {
    let mut state = fabric.state();
    let number = session.wrapping_sub(FIRST_SESSION) as usize;
    match state.services.sessions.get_mut(number).filter(|session| session.is_open()) {
        Some(session) => session.guest_is_done = true,
        None => return INVALID,
    }
    drop(state);
    fabric.changed().notify_all();
    0
}
