//! Serves a page that says which instance served it.

use grafos_std::{Failure, Output, Tasklet, ToJson};
use grafos_svc::{Conversation, Listener, Next};

use crate::http::{answer, read, Asked};

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// Who answers.
#[derive(Clone, Debug, ToJson)]
pub struct Where {
    pub instance_id: String,
    pub cell_id: String,
    pub provider: String,
}

impl Where {
    /// This instance.
    fn here() -> Where {
        let context = Tasklet::context();
        let instance_id = context.service.map(|service| service.instance_id).unwrap_or_default();
        Where { instance_id, cell_id: context.cell_id, provider: context.provider }
    }
}

/// The answer to a request.
pub fn compute(asked: &Asked<'_>, place: &Where) -> Vec<u8> {
    let (path, with_body) = match asked {
        Asked::Get(path) => (*path, true),
        Asked::Head(path) => (*path, false),
        Asked::Refused(status) => return answer(*status, TEXT, "this server answers GET and HEAD\n", true),
    };
    match path {
        "/" => answer(200, HTML, &page(place), with_body),
        "/where" => {
            let body = Output::json(place.clone()).response().unwrap_or_default().to_owned() + "\n";
            answer(200, JSON, &body, with_body)
        }
        _ => answer(404, TEXT, "there is no such page\n", with_body),
    }
}

fn page(place: &Where) -> String {
    let Where { instance_id, cell_id, provider } = place;
    format!("<!doctype html>\n<title>web-server</title>\n<p>Served by {instance_id} on {cell_id} ({provider}).</p>\n")
}

/// One client, whose bytes come in pieces.
struct Visit<'a> {
    came: Vec<u8>,
    place: &'a Where,
}

impl Conversation for Visit<'_> {
    fn received(&mut self, data: &[u8], out: &mut Vec<u8>) -> Next {
        self.came.extend_from_slice(data);
        match read(&self.came) {
            None => Next::GoOn,
            Some(asked) => {
                out.extend(compute(&asked, self.place));
                Next::Close
            }
        }
    }
}

/// Serves until it is drained; the answer is how many came.
#[grafos_std::tasklet]
pub fn web() -> Result<Output, Failure> {
    let place = Where::here();
    let served = Listener::of_service()?.serve_together(|| Visit { came: Vec::new(), place: &place })?;
    Ok(Output::json(served))
}

#[cfg(test)]
mod tests {
    use grafos_std::host;

    use super::*;

    fn place() -> Where {
        Where { instance_id: "inst-1".into(), cell_id: "cell-1".into(), provider: "local".into() }
    }

    #[test]
    fn each_page_says_who_served_it() {
        for (path, words) in [("/", "Served by inst-1 on cell-1 (local)."), ("/where", r#""instance_id":"inst-1""#)] {
            let whole = String::from_utf8(compute(&Asked::Get(path), &place())).unwrap();
            assert!(whole.starts_with("HTTP/1.1 200 OK\r\n") && whole.contains(words), "{whole}");
        }
        assert!(compute(&Asked::Get("/none"), &place()).starts_with(b"HTTP/1.1 404 "));
        assert!(compute(&Asked::Refused(405), &place()).starts_with(b"HTTP/1.1 405 "));
        assert!(compute(&Asked::Head("/"), &place()).ends_with(b"\r\n\r\n"));
    }

    #[test]
    fn many_are_served_at_a_time_and_a_slow_one_holds_nobody_up() {
        let fabric = host::mock_fabric();
        fabric.allow_service(8080, 64);
        let mut context = Tasklet::context();
        context.service = Some(grafos_std::ServiceInstance {
            name: "web".into(),
            port: 8080,
            max_sessions: 64,
            instance_id: "inst-7".into(),
            generation: 1,
        });
        host::mock_set_context(&context);
        let clients = [(); 3].map(|()| fabric.connect(8080).unwrap());
        clients[0].send(b"GET / HT");
        clients[1].send(b"GET /where HTTP/1.1\r\n\r\n");
        clients[2].vanish();
        clients[0].send(b"TP/1.1\r\n\r\n");
        fabric.drain(8080);
        assert_eq!(host::mock_run(|_| web(), b"").response.as_deref(), Some("3"));
        let said = |client: &host::MockSession| String::from_utf8(client.received()).unwrap();
        assert!(said(&clients[0]).contains("Served by inst-7 on local-mock (local)."));
        assert!(said(&clients[1]).contains(r#"{"instance_id":"inst-7","cell_id":"local-mock","provider":"local"}"#));
        assert!(clients[0].is_closed() && clients[1].is_closed());
    }
}
