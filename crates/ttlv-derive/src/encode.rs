//! `Encode`: the fields in the order of their declaration.

use crate::field::{Field, Shape, bounded, distinct, fields, options, version};
use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{DeriveInput, Result};

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let name = &input.ident;
    let Some(fields) = fields(input)? else {
        return Ok(quote!());
    };
    let of_type = options(&input.attrs)?;
    of_type.only(&["tag", "downgrade"], "a type", name.span())?;
    let tagged = match &of_type.tag {
        Some(tag) => {
            let (impls, types, wheres) = input.generics.split_for_impl();
            quote!(impl #impls ::keyferry_ttlv::Tagged for #name #types #wheres { const TAG: ::keyferry_ttlv::Tag = #tag; })
        }
        None => quote!(),
    };
    let distinct = distinct(&fields, input)?;
    let generics = bounded(&input.generics, &quote!(::keyferry_ttlv::Encode));
    let (impls, types, wheres) = generics.split_for_impl();
    let mut body = Vec::new();
    for field in &fields {
        let Field {
            name, tag, span, ..
        } = field;
        let check = match field.options.range()? {
            Some((since, until)) => quote!(w.require(#tag, #since, #until)?;),
            None => quote!(),
        };
        let (write, check) = if field.options.choice {
            (
                quote_spanned!(*span=> ::keyferry_ttlv::Choice::encode_choice(value, w)?;),
                quote!(),
            )
        } else {
            (
                quote_spanned!(*span=> ::keyferry_ttlv::Encode::encode(value, #tag, w)?;),
                check,
            )
        };
        body.push(match field.shape {
            Shape::Extra => quote!(self.#name.write(w);),
            Shape::Group => {
                let (inner, how) = (&field.inner, &field.options.group);
                quote_spanned!(*span=> <#inner as ::keyferry_ttlv::Group>::write(&self.#name, #how, w)?;)
            }
            Shape::Required => match &field.options.default {
                Some(default) => {
                    let inner = &field.inner;
                    quote!({
                        let (value, default): (_, #inner) = (&self.#name, #default);
                        if *value != default { #check #write }
                    })
                }
                None => quote!({ let value = &self.#name; #check #write }),
            },
            Shape::Optional => {
                let required = field.options.required(&quote!(w.version()))?.map(|required| {
                    quote!(else if #required {
                        return ::core::result::Result::Err(w.error(#tag, ::keyferry_ttlv::ErrorKind::Missing(#tag)));
                    })
                });
                quote!(if let ::core::option::Option::Some(value) = &self.#name { #check #write } #required)
            }
            Shape::Repeated => {
                let single = match &field.options.repeated_since {
                    Some(text) => {
                        let since = version(text)?;
                        quote!(if self.#name.len() > 1 && w.version() < #since {
                            return ::core::result::Result::Err(w.error(#tag, ::keyferry_ttlv::ErrorKind::Repeated(#tag)));
                        })
                    }
                    None => quote!(),
                };
                let some = field.options.at_least_one.then(|| {
                    quote!(if self.#name.is_empty() {
                        return ::core::result::Result::Err(w.error(#tag, ::keyferry_ttlv::ErrorKind::Missing(#tag)));
                    })
                });
                quote!(#some #single for value in &self.#name { #check #write })
            }
        });
    }
    Ok(quote! {
        #tagged
        #distinct
        #[automatically_derived]
        impl #impls ::keyferry_ttlv::Encode for #name #types #wheres {
            fn encode(&self, tag: ::keyferry_ttlv::Tag, w: &mut ::keyferry_ttlv::Writer) -> ::keyferry_ttlv::Result<()> {
                w.structure(tag, |w| {
                    #(#body)*
                    ::core::result::Result::Ok(())
                })
            }
        }
    })
}
