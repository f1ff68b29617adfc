//! Greets whoever the input names, and says where it did so.

use grafos_std::{fail, log, Failure, Output, Tasklet, ToJson};

#[derive(ToJson)]
pub struct Hello {
    pub hello: String,
    pub from: String,
}

/// The greeting, or why there is none. It knows nothing of cells, so that any test can call it.
pub fn compute(input: &[u8]) -> Result<String, &'static str> {
    let name = std::str::from_utf8(input).map_err(|_| "invalid_input")?.trim();
    if name.is_empty() {
        return Err("nobody_to_greet");
    }
    Ok(name.to_owned())
}

#[grafos_std::tasklet]
pub fn hello(input: &[u8]) -> Result<Output, Failure> {
    let hello = compute(input)?;
    if hello.len() > 100 {
        return fail(format!("name_too_long: {} bytes", hello.len()));
    }
    log!("greeting {hello}");
    let context = Tasklet::context();
    Ok(Output::json(Hello { hello, from: format!("{}/{}", context.provider, context.region) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use grafos_std::host;

    #[test]
    fn a_name_is_greeted_from_where_the_tasklet_runs() {
        let ran = host::mock_run(hello, b"Ada\n");
        assert_eq!(ran.response.as_deref(), Some(r#"{"hello":"Ada","from":"local/here"}"#));
        assert_eq!(ran.log, ["greeting Ada"]);
    }

    #[test]
    fn nobody_is_not_greeted() {
        assert_eq!(compute(b"  \n"), Err("nobody_to_greet"));
        assert_eq!(compute(b"\xff"), Err("invalid_input"));
    }

    #[test]
    fn a_failure_is_the_text_of_the_run() {
        let ran = host::mock_run(hello, &[b'a'; 101]);
        assert_eq!((ran.code, ran.text.as_str()), ("program_error", "name_too_long: 101 bytes"));
    }
}
