//! One client's connection.

use std::io;

use grafos_std::{host, FabricError};

/// A session with one client; it is closed when this is dropped. It also reads and writes as `std::io` has it, for code that
/// is made for that.
#[derive(Debug)]
pub struct Session {
    handle: u32,
    is_open: bool,
}

impl Session {
    pub(crate) fn new(handle: u32) -> Session {
        Session { handle, is_open: true }
    }

    pub(crate) fn handle(&self) -> u32 {
        self.handle
    }

    /// Waits for bytes and gives how many came; 0 when the client has sent all that it will. `Disconnected` when it is gone.
    pub fn read(&mut self, into: &mut [u8]) -> Result<usize, FabricError> {
        FabricError::check(host::svc_read(self.handle, into))
    }

    /// Waits for room and gives how many bytes were taken, which may be fewer than there are.
    pub fn write(&mut self, data: &[u8]) -> Result<usize, FabricError> {
        FabricError::check(host::svc_write(self.handle, data))
    }

    /// Writes all bytes.
    pub fn write_all(&mut self, mut data: &[u8]) -> Result<(), FabricError> {
        while !data.is_empty() {
            data = &data[self.write(data)?..];
        }
        Ok(())
    }

    /// Closes the session, and says whether that was so.
    pub fn close(mut self) -> Result<(), FabricError> {
        self.is_open = false;
        FabricError::check(host::svc_close(self.handle)).map(|_| ())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.is_open {
            host::svc_close(self.handle); // who wants to know calls `close`
        }
    }
}

fn as_io(error: FabricError) -> io::Error {
    let kind = match error {
        FabricError::Disconnected => io::ErrorKind::ConnectionReset,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

impl io::Read for Session {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        Session::read(self, into).map_err(as_io)
    }
}

impl io::Write for Session {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        Session::write(self, data).map_err(as_io)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
