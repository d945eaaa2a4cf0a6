use crate::keys;
use crate::medium::{View, fail};
use crate::tables::{self, INDEX, META, RECORDS, SCHEMA, split_record};
use keyferry_store::{Result, schema};
use redb::{Database, ReadableTable};

/// Brings a file of an earlier schema version up to date, in one transaction: a process that is killed meanwhile leaves it as it was.
pub(crate) fn migrate(view: View<'_>, database: &Database) -> Result<()> {
    let mut at = database.begin_write().map_err(|e| view.explain(e))?;
    at.set_quick_repair(true);
    {
        let records = at.open_table(RECORDS).map_err(|e| view.explain(e))?;
        let mut index = at.open_table(INDEX).map_err(|e| view.explain(e))?;
        for next in records.iter().map_err(|e| view.explain(e))? {
            let (number, stored) = next.map_err(|e| view.explain(e))?;
            let number = number.value();
            let record = |what: &str| view.corrupt(format_args!("record {number} {what}"));
            let (_, _, attributes) =
                split_record(stored.value()).ok_or_else(|| record("is cut short"))?;
            let changed = schema::rekeyed(attributes)
                .map_err(|e| record(&format!("cannot be brought up to date: {e}")))?;
            for key in &changed.remove {
                index
                    .remove(keys::entry(key.index.0, &key.key, number).as_slice())
                    .map_err(|e| view.explain(e))?;
            }
            for key in &changed.insert {
                index
                    .insert(keys::entry(key.index.0, &key.key, number).as_slice(), ())
                    .map_err(|e| view.explain(e))?;
            }
        }
        let mut meta = at.open_table(META).map_err(|e| view.explain(e))?;
        meta.insert(SCHEMA, schema::VERSION.to_be_bytes().as_slice())
            .map_err(|e| view.explain(e))?;
    }
    at.commit().map_err(|e| view.explain(e))
}

/// Whether the file has an earlier schema version.
pub(crate) fn is_due(
    view: View<'_>,
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<bool> {
    schema::is_earlier(tables::version(view, meta)?)
        .map_err(|error| fail(error.kind(), view.path, error))
}
