//! `#[tasklet]`: the head of a function, and the hooks that its module exports.

use proc_macro::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};

use crate::{name_of, place_at, Fault, Reader};

const FORM: &str = "write it as `fn name(input: &[u8]) -> Output`";

struct Head {
    name: Ident,
    takes_input: bool,
    /// Where the type of what it gives stands.
    gives: Span,
}

/// The code that makes the function's module a tasklet. Its names begin with `__` so that none is the function's.
///
/// The hooks are there only when the module of this very tasklet is built, which the builder says by a `cfg`. That
/// the function fits is checked in every build, so that tests and editors see it too.
pub fn hooks_of(item: TokenStream) -> Result<TokenStream, Fault> {
    let head = read_head(item)?;
    let (name, path) = (name_of(&head.name), head.name.to_string());
    let run = if head.takes_input { "run_with_input" } else { "run_without_input" };
    let hook = format!("#[cfg(grafos_tasklet = \"{name}\")] #[unsafe(no_mangle)] extern \"C\"");
    let code = format!(
        "#[allow(dead_code, unexpected_cfgs)]
        const _: () = {{
            fn __grafos_run(__handle: u32, __length: u32) -> i32 {{
                ::grafos_std::entry::{run}(__handle, __length, {path})
            }}
            {hook} fn _grafos_tasklet_init(__handle: u32, __length: u32) {{
                ::grafos_std::entry::init(__handle, __length)
            }}
            {hook} fn _grafos_tasklet_run(__handle: u32, __length: u32) -> i32 {{
                __grafos_run(__handle, __length)
            }}
            {hook} fn _grafos_tasklet_finalize() {{}}
        }};"
    );
    let code: TokenStream = code.parse().map_err(|_| Fault::at(head.name.span(), FORM))?;
    Ok(place_at(code, head.gives))
}

fn read_head(item: TokenStream) -> Result<Head, Fault> {
    let mut reader = Reader::new(item, Span::call_site());
    reader.skip_attributes_and_visibility();
    for (word, why) in [
        ("const", "a tasklet cannot be `const`: it asks its cell"),
        ("async", "a tasklet cannot be `async`: it runs to its end"),
        ("unsafe", "a tasklet cannot be `unsafe`"),
        ("extern", "a tasklet is a Rust function, without `extern`"),
    ] {
        let span = reader.span();
        if reader.takes_word(word) {
            return Err(Fault::at(span, format!("{why}; {FORM}")));
        }
    }
    let span = reader.span();
    if !reader.takes_word("fn") {
        return Err(Fault::at(span, format!("only a function can be a tasklet; {FORM}")));
    }
    let name = reader.take_ident().ok_or_else(|| Fault::at(span, FORM))?;
    skip_lifetimes(&mut reader)?;
    let parameters = reader.take_group(Delimiter::Parenthesis).ok_or_else(|| Fault::at(reader.span(), FORM))?;
    let takes_input = read_parameters(&parameters)?;
    let gives = read_result(&mut reader, &name)?;
    Ok(Head { name, takes_input, gives })
}

/// Past `<'a>`; the compiler finds the lifetime, but nobody would find a type.
fn skip_lifetimes(reader: &mut Reader) -> Result<(), Fault> {
    let place = reader.span();
    if !reader.takes_sign('<') {
        return Ok(());
    }
    while !reader.takes_sign('>') {
        if !(reader.takes_sign('\'') && reader.take_ident().is_some()) {
            return Err(Fault::at(place, format!("a tasklet cannot be generic; {FORM}")));
        }
        reader.takes_sign(',');
    }
    Ok(())
}

/// Whether there is the one parameter that there may be.
fn read_parameters(parameters: &Group) -> Result<bool, Fault> {
    let mut reader = Reader::new(parameters.stream(), parameters.span_close());
    let first = reader.take_to_comma();
    if first.is_empty() {
        return Ok(false);
    }
    if reader.peek().is_some() {
        return Err(Fault::at(reader.span(), format!("a tasklet takes its input and nothing else; {FORM}")));
    }
    let place = first[0].span();
    let mut words = first.into_iter().skip_while(|token| !is_sign(token, ':'));
    if words.next().is_none() {
        return Err(Fault::at(place, format!("a tasklet is a function of its own, not a method; {FORM}")));
    }
    let written: Vec<TokenTree> = words.flat_map(without_invisible).collect();
    if is_bytes(&written) {
        return Ok(true);
    }
    let place = written.first().map_or(place, TokenTree::span);
    Err(Fault::at(place, "a tasklet's input is `&[u8]`; leave it out and use `Tasklet::input()` to read pieces of it"))
}

/// What a macro wraps around a type that it was given.
fn without_invisible(token: TokenTree) -> Vec<TokenTree> {
    match token {
        TokenTree::Group(group) if group.delimiter() == Delimiter::None => {
            group.stream().into_iter().flat_map(without_invisible).collect()
        }
        other => vec![other],
    }
}

fn is_sign(token: &TokenTree, sign: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == sign)
}

/// `& [u8]`, with a lifetime or without.
fn is_bytes(written: &[TokenTree]) -> bool {
    let inner = match written {
        [and, TokenTree::Group(slice)] if is_sign(and, '&') => slice,
        [and, tick, TokenTree::Ident(_), TokenTree::Group(slice)] if is_sign(and, '&') && is_sign(tick, '\'') => slice,
        _ => return false,
    };
    inner.delimiter() == Delimiter::Bracket && inner.stream().to_string() == "u8"
}

/// Where the type of what the function gives stands.
fn read_result(reader: &mut Reader, name: &Ident) -> Result<Span, Fault> {
    if reader.takes_sign('-') && reader.takes_sign('>') {
        return Ok(reader.span());
    }
    Err(Fault::at(name.span(), "a tasklet gives an `Output`, or a `Result` of one: add `-> Output`"))
}
