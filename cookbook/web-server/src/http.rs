//! As much of HTTP as a page needs: one request, one answer, and the connection is closed.

/// Bytes of a request's head, at most.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    Get(&'a str),
    /// As `Get`, without the body.
    Head(&'a str),
    /// It cannot be answered but with this status.
    Refused(u16),
}

/// The request in these bytes; `None` while its head is not whole. What comes behind the head is not looked at.
pub fn read(data: &[u8]) -> Option<Asked<'_>> {
    let end = data.windows(4).position(|four| four == b"\r\n\r\n");
    if end.unwrap_or(data.len()) > HEAD_BYTES_MAX {
        return Some(Asked::Refused(431));
    }
    let end = end?;
    let Ok(head) = std::str::from_utf8(&data[..end]) else { return Some(Asked::Refused(400)) };
    let words: Vec<&str> = head.lines().next().unwrap_or_default().split(' ').collect();
    let [method, target, version] = words[..] else { return Some(Asked::Refused(400)) };
    if !target.starts_with('/') || !version.starts_with("HTTP/1.") {
        return Some(Asked::Refused(400));
    }
    let path = target.split('?').next().unwrap_or_default();
    Some(match method {
        "GET" => Asked::Get(path),
        "HEAD" => Asked::Head(path),
        _ => Asked::Refused(405),
    })
}

/// An answer as it goes over the wire.
pub fn answer(status: u16, kind: &str, body: &str, with_body: bool) -> Vec<u8> {
    let reason = match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        _ => "Request Header Fields Too Large",
    };
    let head = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), if with_body { body.as_bytes() } else { b"" }].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_once_its_head_is_whole() {
        assert_eq!(read(b"GET / HTTP/1.1\r\nHost: web\r\n"), None);
        assert_eq!(read(b"GET /where?x=1 HTTP/1.1\r\nHost: web\r\n\r\nrest"), Some(Asked::Get("/where")));
        assert_eq!(read(b"HEAD / HTTP/1.0\r\n\r\n"), Some(Asked::Head("/")));
    }

    #[test]
    fn what_is_no_request_has_its_status() {
        let long = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'x'; HEAD_BYTES_MAX], b"\r\n\r\n"].concat();
        for (data, status) in [
            (&b"POST / HTTP/1.1\r\n\r\n"[..], 405),
            (b"GET /\r\n\r\n", 400),
            (b"GET http://web/ HTTP/1.1\r\n\r\n", 400),
            (b"GET / SMTP\r\n\r\n", 400),
            (b"\xff\xfe\r\n\r\n", 400),
            (b"\r\n\r\n", 400),
            (&[b'x'; HEAD_BYTES_MAX + 1], 431),
            (&long, 431),
        ] {
            assert_eq!(read(data), Some(Asked::Refused(status)));
        }
    }

    #[test]
    fn an_answer_says_how_long_it_is() {
        let whole = String::from_utf8(answer(200, "text/plain", "grün\n", true)).unwrap();
        assert!(whole.starts_with("HTTP/1.1 200 OK\r\n") && whole.contains("Content-Length: 6\r\n"));
        assert!(whole.ends_with("\r\n\r\ngrün\n"));
        assert!(answer(404, "text/plain", "none\n", false).ends_with(b"close\r\n\r\n"));
    }
}
