//! `Decode`, and what a choice is made of.

use crate::field::{Field, Shape, bounded, fields, variants};
use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::{DeriveInput, Result};

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let name = &input.ident;
    let Some(fields) = fields(input)? else {
        return choice(input);
    };
    let generics = bounded(&input.generics, &quote!(::keyferry_ttlv::Decode));
    let (impls, types, wheres) = generics.split_for_impl();
    let (mut lets, mut arms, mut ends, mut build) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut rest = quote!(return ::core::result::Result::Err(r.unexpected(child)));
    for field in &fields {
        let Field {
            name,
            inner,
            tag,
            span,
            ..
        } = field;
        let guard = match field.options.range()? {
            Some((since, until)) => quote!(if r.has(#since, #until)),
            None => quote!(),
        };
        let local = format_ident!("field_{}", name);
        if field.shape == Shape::Extra {
            lets.push(quote!(let mut #local = ::keyferry_ttlv::Extra::default();));
            rest = quote!(#local.keep(child, r)?);
            build.push(quote!(#name: #local));
            continue;
        }
        if let Some(how) = &field.options.group {
            let taken = format_ident!("taken_{}", name);
            lets.push(quote!(let mut #local: #inner = ::core::default::Default::default();));
            lets.push(quote!(let mut #taken = 0usize;));
            arms.push(quote_spanned!(*span=> _ if <#inner as ::keyferry_ttlv::Group>::accepts(#how, child, r) => {
                ::keyferry_ttlv::Group::absorb(&mut #local, #how, #taken, child, r)?;
                #taken += 1;
            }));
            ends.push(quote_spanned!(*span=> ::keyferry_ttlv::Group::finish(&#local, #how, #taken, item, r)?;));
            build.push(quote!(#name: #local));
            continue;
        }
        let take = match (field.shape, field.options.choice) {
            (Shape::Repeated, false) => {
                quote_spanned!(*span=> #local.push(r.child::<#inner>(child)?))
            }
            (Shape::Repeated, true) => {
                quote_spanned!(*span=> #local.push(<#inner as ::keyferry_ttlv::Choice>::decode_choice(child, r)?))
            }
            (_, false) => quote_spanned!(*span=> r.once::<#inner>(&mut #local, child)?),
            (_, true) => quote_spanned!(*span=> {
                if #local.is_some() {
                    return ::core::result::Result::Err(r.error(child, ::keyferry_ttlv::ErrorKind::Repeated(child.tag())));
                }
                #local = ::core::option::Option::Some(<#inner as ::keyferry_ttlv::Choice>::decode_choice(child, r)?)
            }),
        };
        arms.push(if field.options.choice {
            quote_spanned!(*span=> tag if <#inner as ::keyferry_ttlv::Choice>::accepts(tag, r) => #take,)
        } else {
            quote!(#tag #guard => #take,)
        });
        match field.shape {
            Shape::Repeated => {
                lets.push(
                    quote!(let mut #local: ::keyferry_ttlv::__private::Vec<#inner> = ::keyferry_ttlv::__private::Vec::new();),
                );
                build.push(quote!(#name: #local));
            }
            Shape::Optional => {
                lets.push(quote!(let mut #local: ::core::option::Option<#inner> = ::core::option::Option::None;));
                build.push(quote!(#name: #local));
            }
            _ => {
                lets.push(quote!(let mut #local: ::core::option::Option<#inner> = ::core::option::Option::None;));
                let absent = if field.options.choice && field.options.tag.is_none() {
                    quote!(item.tag())
                } else {
                    quote!(#tag)
                };
                let absent = match &field.options.default {
                    Some(default) => default.clone(),
                    None => quote!(return ::core::result::Result::Err(r.missing(item, #absent))),
                };
                build.push(quote!(#name: match #local {
                    ::core::option::Option::Some(value) => value,
                    ::core::option::Option::None => #absent,
                }));
            }
        }
    }
    Ok(quote! {
        #[automatically_derived]
        impl #impls ::keyferry_ttlv::Decode for #name #types #wheres {
            fn decode<'a>(item: ::keyferry_ttlv::Item<'a>, r: &::keyferry_ttlv::Reader<'a>) -> ::keyferry_ttlv::Result<Self> {
                #(#lets)*
                let mut children = r.enter(item)?;
                while let ::core::option::Option::Some(child) = children.step() {
                    match child.tag() {
                        #(#arms)*
                        _ => #rest,
                    }
                }
                r.leave(children)?;
                #(#ends)*
                ::core::result::Result::Ok(Self { #(#build),* })
            }
        }
    })
}

fn choice(input: &DeriveInput) -> Result<TokenStream> {
    let name = &input.ident;
    let variants = variants(input)?;
    let names: Vec<_> = variants.iter().map(|v| &v.name).collect();
    let types: Vec<_> = variants.iter().map(|v| &v.ty).collect();
    let tags: Vec<_> = variants.iter().map(|v| &v.tag).collect();
    let has: Vec<_> = variants.iter().map(|v| &v.has).collect();
    let require: Vec<_> = variants.iter().map(|v| &v.require).collect();
    Ok(quote! {
        #[automatically_derived]
        impl ::keyferry_ttlv::Choice for #name {
            fn tag(&self) -> ::keyferry_ttlv::Tag {
                match self {
                    #(#name::#names(_) => #tags,)*
                }
            }
            fn accepts(tag: ::keyferry_ttlv::Tag, r: &::keyferry_ttlv::Reader<'_>) -> bool {
                match tag {
                    #(#tags #has => true,)*
                    _ => false,
                }
            }
            fn decode_choice<'a>(item: ::keyferry_ttlv::Item<'a>, r: &::keyferry_ttlv::Reader<'a>) -> ::keyferry_ttlv::Result<Self> {
                match item.tag() {
                    #(#tags #has => r.child::<#types>(item).map(#name::#names),)*
                    _ => ::core::result::Result::Err(r.unexpected(item)),
                }
            }
            fn encode_choice(&self, w: &mut ::keyferry_ttlv::Writer) -> ::keyferry_ttlv::Result<()> {
                match self {
                    #(#name::#names(value) => { #require ::keyferry_ttlv::Encode::encode(value, #tags, w) })*
                }
            }
        }
    })
}
