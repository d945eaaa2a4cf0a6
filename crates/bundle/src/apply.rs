use crate::{Error, Result};
use keyferry_kmip::{Cause, Failure, Identity, ImportRequest, Now, Random, RequestItem, RequestMessage, ResponseItem, context};
use keyferry_s2s::{Ask, Ending, Fate, Report, Responder, Told, Unrestricted};
use keyferry_store::{Deferred, Store, StoreExt};

/// Where the messages of a bundle go: for applications that do not hand them to a server of their own.
pub struct Receiving<'a> {
    /// What answers them, usually a [`Node`](keyferry_s2s::Node). Its policy decides.
    pub responder: &'a dyn Responder,
    /// Where its effects go.
    pub store: &'a dyn Store,
    /// As whom the sender counts: the name that the policy knows the manifest's sender by.
    pub caller: &'a Identity,
    /// The time.
    pub now: Now,
}

impl std::fmt::Debug for Receiving<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiving").field("caller", &self.caller).finish_non_exhaustive()
    }
}

impl Receiving<'_> {
    /// Answers a message in one transaction and counts in `report` what became of each object. One that is refused does not stop the others.
    ///
    /// # Errors
    /// [`ErrorKind::Store`](crate::ErrorKind::Store): nothing of the message was done then, and nothing counted.
    pub fn apply(&self, random: &mut dyn Random, message: &RequestMessage, report: &mut Report) -> Result<()> {
        let cx = context(message.version().map_err(crate::format::encode)?);
        let answers = self.store.transact::<_, Error>(|transaction| {
            let mut world = Deferred::new(transaction);
            let mut answers: Vec<Result<ResponseItem, Failure>> = Vec::with_capacity(message.batch.len());
            for item in &message.batch {
                let mut ask = Ask {
                    snapshot: &world,
                    caller: self.caller,
                    operation: item.operation,
                    rights: &Unrestricted,
                    is_client: false,
                    tls: self.caller,
                    now: self.now,
                    random: &mut *random,
                    cx,
                    placeholder: None,
                    earlier: &[],
                };
                let answer = self.responder.respond(&mut ask, item).unwrap_or_else(|| {
                    Err(Failure::new(
                        Cause::OperationNotSupported,
                        format_args!("the operation {} is not supported", item.operation),
                    ))
                });
                answers.push(match answer {
                    Ok(outcome) => {
                        world.add(outcome.effects)?;
                        Ok(outcome.response)
                    }
                    Err(failure) => Err(failure),
                });
            }
            world.finish()?;
            Ok(answers)
        })?;
        for (item, answer) in message.batch.iter().zip(answers) {
            report.counts.bytes += crate::format::long(item.request_payload.bytes().len() as u64);
            let identifier = identifier(item, cx);
            report.tell(match answer.and_then(|response| Fate::told(&response)) {
                Ok(fate) => Told::new(&identifier, fate.map_or(Ending::Created, Fate::ending)),
                Err(failure) => Told::failed(&identifier, Some(failure.reason(cx.version)), failure.to_string()),
            });
        }
        Ok(())
    }
}

fn identifier(item: &RequestItem, cx: keyferry_ttlv::Context) -> String {
    item.payload::<ImportRequest>(cx).map(|request| request.unique_identifier.to_string()).unwrap_or_default()
}
