//! `#[derive(ToJson)]`, an object with a member for each field, and `#[derive(Wire)]`, a field after the other.

use proc_macro::{Delimiter, Ident, Span, TokenStream};

use crate::{name_of, Fault, Reader};

/// A struct with named fields.
struct Struct {
    name: Ident,
    fields: Vec<Ident>,
}

pub fn to_json(item: TokenStream) -> Result<TokenStream, Fault> {
    let found = read_struct("ToJson", item)?;
    let mut members = String::new();
    for field in &found.fields {
        let comma = if members.is_empty() { "" } else { "," };
        let before = format!("{comma}\"{}\":", name_of(field));
        members += &format!("out.push_str({before:?}); ::grafos_std::ToJson::to_json(&self.{field}, out)?;\n");
    }
    written(
        &found,
        format!(
            "impl ::grafos_std::ToJson for {} {{
                fn to_json(
                    &self, out: &mut ::std::string::String
                ) -> ::core::result::Result<(), ::grafos_std::Failure> {{
                    out.push('{{');
                    {members}
                    out.push('}}');
                    ::core::result::Result::Ok(())
                }}
            }}",
            found.name
        ),
    )
}

pub fn wire(item: TokenStream) -> Result<TokenStream, Fault> {
    let found = read_struct("Wire", item)?;
    let each = |code: fn(&Ident) -> String| found.fields.iter().map(code).collect::<String>();
    let encoded = each(|field| format!("::grafos_std::Wire::encode(&self.{field}, out);\n"));
    let decoded = each(|field| format!("{field}: ::grafos_std::Wire::decode(from)?,\n"));
    written(
        &found,
        format!(
            "impl ::grafos_std::Wire for {} {{
                fn encode(&self, out: &mut ::std::vec::Vec<u8>) {{
                    {encoded}
                }}

                fn decode(
                    from: &mut ::grafos_std::wire::WireReader<'_>
                ) -> ::core::result::Result<Self, ::grafos_std::FabricError> {{
                    ::core::result::Result::Ok(Self {{ {decoded} }})
                }}
            }}",
            found.name
        ),
    )
}

fn read_struct(derived: &str, item: TokenStream) -> Result<Struct, Fault> {
    let form = format!("{derived} can be derived for a struct with named fields");
    let mut reader = Reader::new(item, Span::call_site());
    reader.skip_attributes_and_visibility();
    let span = reader.span();
    if !reader.takes_word("struct") {
        return Err(Fault::at(span, format!("{form}; for anything else write `impl {derived}` yourself")));
    }
    let name = reader.take_ident().ok_or_else(|| Fault::at(span, &form))?;
    if reader.is_sign('<') {
        return Err(Fault::at(reader.span(), format!("{form} and without parameters")));
    }
    let inner = reader.take_group(Delimiter::Brace).ok_or_else(|| Fault::at(name.span(), &form))?;
    let mut fields = Vec::new();
    let mut reader = Reader::new(inner.stream(), inner.span_close());
    while reader.peek().is_some() {
        reader.skip_attributes_and_visibility();
        fields.push(reader.take_ident().ok_or_else(|| Fault::at(reader.span(), &form))?);
        reader.take_to_comma();
    }
    Ok(Struct { name, fields })
}

fn written(of: &Struct, code: String) -> Result<TokenStream, Fault> {
    code.parse().map_err(|_| Fault::at(of.name.span(), "nothing can be derived for a struct of that name"))
}
