//! Services: a tasklet that listens, and answers sessions until it is drained.
//!
//! ```
//! use grafos_std::{Failure, Output};
//! use grafos_svc::{Conversation, Listener, Next};
//!
//! struct Echo;
//!
//! impl Conversation for Echo {
//!     fn received(&mut self, data: &[u8], answer: &mut Vec<u8>) -> Next {
//!         answer.extend_from_slice(data);
//!         Next::GoOn
//!     }
//! }
//!
//! #[grafos_std::tasklet]
//! fn echo() -> Result<Output, Failure> {
//!     let served = Listener::bind(8080, 64)?.serve_together(|| Echo)?;
//!     Ok(Output::json(served))
//! }
//!
//! use grafos_std::host;
//!
//! let fabric = host::mock_fabric();
//! fabric.allow_service(8080, 64);
//! let client = fabric.connect(8080).unwrap();
//! client.send(b"hello");
//! client.finish();
//! fabric.drain(8080);
//! assert_eq!(host::mock_run(|_| echo(), b"").response.as_deref(), Some("1"));
//! assert_eq!(client.received(), b"hello");
//! ```
//!
//! **Waiting** happens at the host, and costs neither processor nor fuel. [`Listener::serve_together`] has many sessions
//! open: none waits for another, and one that does not read its answers is not read from either. [`Listener::serve`] is
//! simpler and serves one after the other. When the instance is drained both come to their end, and the tasklet finishes
//! as any other does. In a tasklet that is no service `bind` answers `Unsupported`.

mod session;
mod together;

use grafos_std::{host, FabricError, Tasklet};

pub use session::Session;
pub use together::{Conversation, Next};

/// The instance's own listener lease, in the place of a capability.
const OWN_LISTENER: u32 = 0;
/// What `accept` answers when no more sessions will come.
const DRAINING: FabricError = FabricError::IoError(-9);

/// A port on which this instance gets sessions.
#[derive(Debug)]
pub struct Listener {
    handle: u32,
}

impl Listener {
    /// Listens on the port that the service was deployed with, for at most so many sessions at a time. `Unsupported` in a
    /// tasklet that is no service, `CapacityExceeded` for a port or a number that it does not have.
    pub fn bind(port: u16, max_sessions: u32) -> Result<Listener, FabricError> {
        let handle = FabricError::check(host::svc_listen(OWN_LISTENER, u32::from(port), max_sessions))?;
        Ok(Listener { handle: handle as u32 })
    }

    /// Listens as the service was deployed, as the context says it; `Unsupported` in a tasklet that is no service.
    pub fn of_service() -> Result<Listener, FabricError> {
        let service = Tasklet::context().service.ok_or(FabricError::Unsupported)?;
        Listener::bind(service.port, service.max_sessions)
    }

    /// The next session, waiting for it; `None` when no more will come.
    pub fn accept(&self) -> Result<Option<Session>, FabricError> {
        match FabricError::check(host::svc_accept(self.handle)) {
            Ok(handle) => Ok(Some(Session::new(handle as u32))),
            Err(DRAINING) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives each session to `handler` until no more come, and says how many there were. A session whose client is gone,
    /// or whose handler fails, is closed, noted in the log and counted; the service goes on.
    pub fn serve(&self, mut handler: impl FnMut(&mut Session) -> Result<(), FabricError>) -> Result<u64, FabricError> {
        let mut served = 0;
        while let Some(mut session) = self.accept()? {
            if let Err(error) = handler(&mut session) {
                grafos_std::log!("session {served}: {error}");
            }
            served += 1;
        }
        Ok(served)
    }

    /// What can be done next, waiting for it; `None` when no session is open and none will come.
    fn wait(&self) -> Result<Option<u32>, FabricError> {
        match FabricError::check(host::svc_wait(self.handle)) {
            Ok(handle) => Ok(Some(handle as u32)),
            Err(DRAINING) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
