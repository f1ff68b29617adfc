//! `#[derive(ToJson)]`: an object with a member for each field.

use proc_macro::{Delimiter, Span, TokenStream};

use crate::{name_of, Fault, Reader};

const FORM: &str = "ToJson can be derived for a struct with named fields";

pub fn to_json(item: TokenStream) -> Result<TokenStream, Fault> {
    let mut reader = Reader::new(item, Span::call_site());
    reader.skip_attributes_and_visibility();
    let span = reader.span();
    if !reader.takes_word("struct") {
        return Err(Fault::at(span, format!("{FORM}; for anything else write `impl ToJson` yourself")));
    }
    let name = reader.take_ident().ok_or_else(|| Fault::at(span, FORM))?;
    if reader.is_sign('<') {
        return Err(Fault::at(reader.span(), format!("{FORM} and without parameters")));
    }
    let fields = reader.take_group(Delimiter::Brace).ok_or_else(|| Fault::at(name.span(), FORM))?;
    let mut members = String::new();
    let mut reader = Reader::new(fields.stream(), fields.span_close());
    while reader.peek().is_some() {
        reader.skip_attributes_and_visibility();
        let field = reader.take_ident().ok_or_else(|| Fault::at(reader.span(), FORM))?;
        let comma = if members.is_empty() { "" } else { "," };
        let before = format!("{comma}\"{}\":", name_of(&field));
        members += &format!("out.push_str({before:?}); ::grafos_std::ToJson::to_json(&self.{field}, out)?;\n");
        reader.take_to_comma();
    }
    let code = format!(
        "impl ::grafos_std::ToJson for {name} {{
            fn to_json(
                &self, out: &mut ::std::string::String
            ) -> ::core::result::Result<(), ::grafos_std::Failure> {{
                out.push('{{');
                {members}
                out.push('}}');
                ::core::result::Result::Ok(())
            }}
        }}"
    );
    code.parse().map_err(|_| Fault::at(name.span(), FORM))
}
