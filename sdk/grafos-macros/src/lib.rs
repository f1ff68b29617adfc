//! The attribute `#[grafos_std::tasklet]` and the derives `ToJson` and `Wire`, without a dependency.
//!
//! They read the few tokens that matter and leave the rest to the compiler. What they cannot take is a compile error
//! at the place where it stands, with what to write there.

mod derive;
mod function;

use proc_macro::{Delimiter, Group, Ident, Literal, Punct, Spacing, Span, TokenStream, TokenTree};

/// Makes a function a tasklet: `fn name(input: &[u8]) -> Output`, or without the input, or with a `Result` of an output.
///
/// A module has one tasklet. A crate may have several: `grafos tasklet build` builds a module of each, named as the
/// function is, with `-` for `_`. The function itself stays what it is, for tests and for other functions to call.
#[proc_macro_attribute]
pub fn tasklet(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let hooks = match arguments.into_iter().next() {
        Some(first) => Err(Fault::at(first.span(), "#[tasklet] takes no arguments")),
        None => function::hooks_of(item.clone()),
    };
    // The function stays, so that a mistake in its head does not also make it unknown elsewhere.
    let mut all = item;
    all.extend(hooks.unwrap_or_else(Fault::into_tokens));
    all
}

/// Makes a struct with named fields something that `Output::json` takes: an object with a member for each field.
#[proc_macro_derive(ToJson)]
pub fn derive_to_json(item: TokenStream) -> TokenStream {
    derive::to_json(item).unwrap_or_else(Fault::into_tokens)
}

/// Makes a struct with named fields something that leased memory keeps: the bytes of one field after the other.
#[proc_macro_derive(Wire)]
pub fn derive_wire(item: TokenStream) -> TokenStream {
    derive::wire(item).unwrap_or_else(Fault::into_tokens)
}

/// What is wrong, and where.
struct Fault {
    span: Span,
    text: String,
}

impl Fault {
    fn at(span: Span, text: impl Into<String>) -> Fault {
        Fault { span, text: text.into() }
    }

    /// `::core::compile_error! { "text" }`, all of it at the place of the fault.
    fn into_tokens(self) -> TokenStream {
        let text: TokenStream = [TokenTree::Literal(Literal::string(&self.text))].into_iter().collect();
        let colons = [Punct::new(':', Spacing::Joint), Punct::new(':', Spacing::Alone)].map(TokenTree::Punct);
        let mut tokens: Vec<TokenTree> = Vec::new();
        for word in ["core", "compile_error"] {
            tokens.extend(colons.clone());
            tokens.push(TokenTree::Ident(Ident::new(word, self.span)));
        }
        tokens.push(TokenTree::Punct(Punct::new('!', Spacing::Alone)));
        tokens.push(TokenTree::Group(Group::new(Delimiter::Brace, text)));
        place_at(tokens.into_iter().collect(), self.span)
    }
}

/// The same tokens, each of them at that place of the source.
fn place_at(tokens: TokenStream, place: Span) -> TokenStream {
    let placed = |mut token: TokenTree| {
        if let TokenTree::Group(group) = &token {
            token = TokenTree::Group(Group::new(group.delimiter(), place_at(group.stream(), place)));
        }
        token.set_span(token.span().located_at(place));
        token
    };
    tokens.into_iter().map(placed).collect()
}

/// Tokens that are read one after the other.
struct Reader {
    tokens: Vec<TokenTree>,
    next: usize,
    /// Where to point when the tokens end too early.
    end: Span,
}

impl Reader {
    fn new(tokens: TokenStream, end: Span) -> Reader {
        Reader { tokens: tokens.into_iter().collect(), next: 0, end }
    }

    fn peek(&self) -> Option<&TokenTree> {
        self.tokens.get(self.next)
    }

    fn take(&mut self) -> Option<TokenTree> {
        let token = self.peek().cloned();
        self.next += 1;
        token
    }

    fn span(&self) -> Span {
        self.peek().map_or(self.end, TokenTree::span)
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let there = matches!(self.peek(), Some(TokenTree::Ident(ident)) if ident.to_string() == word);
        self.next += usize::from(there);
        there
    }

    fn takes_sign(&mut self, sign: char) -> bool {
        let there = self.is_sign(sign);
        self.next += usize::from(there);
        there
    }

    fn is_sign(&self, sign: char) -> bool {
        matches!(self.peek(), Some(TokenTree::Punct(punct)) if punct.as_char() == sign)
    }

    fn take_ident(&mut self) -> Option<Ident> {
        match self.peek() {
            Some(TokenTree::Ident(ident)) => {
                let ident = ident.clone();
                self.next += 1;
                Some(ident)
            }
            _ => None,
        }
    }

    fn take_group(&mut self, delimiter: Delimiter) -> Option<Group> {
        match self.peek() {
            Some(TokenTree::Group(group)) if group.delimiter() == delimiter => {
                let group = group.clone();
                self.next += 1;
                Some(group)
            }
            _ => None,
        }
    }

    /// Past `#[…]` and `pub(…)`.
    fn skip_attributes_and_visibility(&mut self) {
        while self.takes_sign('#') {
            self.take();
        }
        if self.takes_word("pub") {
            self.take_group(Delimiter::Parenthesis);
        }
    }

    /// Past the next comma that stands between no angle brackets; the tokens before it.
    fn take_to_comma(&mut self) -> Vec<TokenTree> {
        let mut taken = Vec::new();
        let (mut depth, mut before) = (0_i32, ' ');
        while let Some(token) = self.take() {
            let sign = if let TokenTree::Punct(punct) = &token { punct.as_char() } else { ' ' };
            match sign {
                ',' if depth == 0 => break,
                '<' => depth += 1,
                '>' if before != '-' => depth -= 1, // `->` closes nothing
                _ => {}
            }
            before = sign;
            taken.push(token);
        }
        taken
    }
}

/// An identifier's name, without the mark of a raw one.
fn name_of(ident: &Ident) -> String {
    let name = ident.to_string();
    name.strip_prefix("r#").map_or(name.clone(), str::to_owned)
}
