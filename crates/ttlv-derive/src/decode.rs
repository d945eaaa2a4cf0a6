//! The derives of `Decode` for a structure, and of `Choice` for an enum.

use crate::field::{Field, Shape, bounded, fields, variants};
use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::{DeriveInput, Expr, Ident, Result};

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let name = &input.ident;
    let Some(fields) = fields(input)? else {
        return choice(input);
    };
    let generics = bounded(&input.generics, &quote!(::keyferry_ttlv::Decode));
    let (impls, types, wheres) = generics.split_for_impl();
    let mut parts = Parts::default();
    for field in &fields {
        match (field.shape, &field.options.group) {
            (Shape::Extra, _) => parts.add_extra(field),
            (_, Some(how)) => parts.add_group(field, how),
            (_, None) => parts.add_field(field)?,
        }
    }
    let Parts {
        lets,
        arms,
        ends,
        build,
        rest,
    } = parts;
    let rest =
        rest.unwrap_or_else(|| quote!(return ::core::result::Result::Err(r.unexpected(child))));
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

/// The parts of the function that reads a structure.
#[derive(Default)]
struct Parts {
    /// The variables, one or two a field.
    lets: Vec<TokenStream>,
    /// The arms of the match on a child's tag.
    arms: Vec<TokenStream>,
    /// The checks behind the last child.
    ends: Vec<TokenStream>,
    /// The fields of the value.
    build: Vec<TokenStream>,
    /// The handling of a child that belongs to no field; an error where nothing else is said.
    rest: Option<TokenStream>,
}

/// The variable that holds a field while the structure is read.
fn variable(field: &Field) -> Ident {
    format_ident!("field_{}", field.name)
}

impl Parts {
    /// Adds the field that keeps what is not known.
    fn add_extra(&mut self, field: &Field) {
        let (name, local) = (&field.name, variable(field));
        self.lets
            .push(quote!(let mut #local = ::keyferry_ttlv::Extra::default();));
        self.rest = Some(quote!(#local.keep(child, r)?));
        self.build.push(quote!(#name: #local));
    }

    /// Adds a field that says itself which items belong to it.
    fn add_group(&mut self, field: &Field, how: &Expr) {
        let (name, inner, span, local) = (&field.name, &field.inner, field.span, variable(field));
        let taken = format_ident!("taken_{}", name);
        self.lets
            .push(quote!(let mut #local: #inner = ::core::default::Default::default();));
        self.lets.push(quote!(let mut #taken = 0usize;));
        self.arms.push(quote_spanned!(span=> _ if <#inner as ::keyferry_ttlv::Group>::accepts(#how, child, r) => {
            ::keyferry_ttlv::Group::absorb(&mut #local, #how, #taken, child, r)?;
            #taken += 1;
        }));
        self.ends.push(
            quote_spanned!(span=> ::keyferry_ttlv::Group::finish(&#local, #how, #taken, item, r)?;),
        );
        self.build.push(quote!(#name: #local));
    }

    /// Adds a field under a tag, or under the tags of a choice.
    fn add_field(&mut self, field: &Field) -> Result<()> {
        let (name, inner, tag, local) = (&field.name, &field.inner, &field.tag, variable(field));
        let read = read(field, &local);
        self.arms.push(if field.options.choice {
            quote_spanned!(field.span=> tag if <#inner as ::keyferry_ttlv::Choice>::accepts(tag, r) => #read,)
        } else {
            let guard = match field.options.range()? {
                Some((since, until)) => quote!(if r.has(#since, #until)),
                None => quote!(),
            };
            quote!(#tag #guard => #read,)
        });
        self.lets.push(if field.shape == Shape::Repeated {
            quote!(let mut #local: ::keyferry_ttlv::__private::Vec<#inner> = ::keyferry_ttlv::__private::Vec::new();)
        } else {
            quote!(let mut #local: ::core::option::Option<#inner> = ::core::option::Option::None;)
        });
        self.build.push(match field.shape {
            Shape::Repeated | Shape::Optional => quote!(#name: #local),
            _ => {
                let absent = absent(field);
                quote!(#name: match #local {
                    ::core::option::Option::Some(value) => value,
                    ::core::option::Option::None => #absent,
                })
            }
        });
        Ok(())
    }
}

/// The statement that reads a child into the field's variable.
fn read(field: &Field, local: &Ident) -> TokenStream {
    let (inner, span) = (&field.inner, field.span);
    match (field.shape, field.options.choice) {
        (Shape::Repeated, false) => {
            quote_spanned!(span=> #local.push(r.child::<#inner>(child)?))
        }
        (Shape::Repeated, true) => {
            quote_spanned!(span=> #local.push(<#inner as ::keyferry_ttlv::Choice>::decode_choice(child, r)?))
        }
        (_, false) => quote_spanned!(span=> r.once::<#inner>(&mut #local, child)?),
        (_, true) => quote_spanned!(span=> {
            if #local.is_some() {
                return ::core::result::Result::Err(r.error(child, ::keyferry_ttlv::ErrorKind::Repeated(child.tag())));
            }
            #local = ::core::option::Option::Some(<#inner as ::keyferry_ttlv::Choice>::decode_choice(child, r)?)
        }),
    }
}

/// The default of a field that is absent, or the error where it must be there.
fn absent(field: &Field) -> TokenStream {
    let tag = &field.tag;
    match &field.options.default {
        Some(default) => default.clone(),
        None if field.options.choice && field.options.tag.is_none() => {
            quote!(return ::core::result::Result::Err(r.missing(item, item.tag())))
        }
        None => quote!(return ::core::result::Result::Err(r.missing(item, #tag))),
    }
}

/// The implementation of `Choice` for an enum.
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
