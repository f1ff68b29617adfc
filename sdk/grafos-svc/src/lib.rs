//! Services: a tasklet that listens, and answers sessions until it is drained.
//!
//! ```
//! use grafos_std::{Failure, Output};
//! use grafos_svc::{Listener, Session};
//!
//! #[grafos_std::tasklet]
//! fn echo() -> Result<Output, Failure> {
//!     let listener = Listener::bind(8080, 64)?;
//!     let served = listener.serve(|session: &mut Session| {
//!         let mut chunk = [0; 1024];
//!         loop {
//!             match session.read(&mut chunk)? {
//!                 0 => return Ok(()), // the client has sent all
//!                 count => session.write_all(&chunk[..count])?,
//!             }
//!         }
//!     })?;
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
//! `accept`, `read` and `write` wait at the host, which costs neither processor nor fuel. An instance has one thread, so
//! while it waits for one client the others wait for it; more replicas serve more at a time. When the instance is drained
//! `accept` answers `None`, and the tasklet finishes as any other does. In a tasklet that is no service `bind` answers
//! `Unsupported`.

mod session;

use grafos_std::{host, FabricError};

pub use session::Session;

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
}
