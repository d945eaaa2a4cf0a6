use crate::outgoing::Terms;
use crate::{Cx, Error, ErrorKind, PullStrategy, Result, Strategy};
use keyferry_kmip::spec::{Operation, QueryFunction, attribute_rows};
use keyferry_kmip::{
    DiscoverVersionsRequest, DiscoverVersionsResponse, Lost, QueryRequest, QueryResponse, RequestItem, RequestMessage,
    ResponseMessage, Ticket, context, extension as x,
};
use keyferry_ttlv::{Extra, Version};
use std::fmt;
