// What the routes need of the database: tables with their columns, functions, a key, and the role's rights to them.

import Postgres

extension Orders {
  private static let tables =
    Resource.rowStatements.map(\.table) + [#""order""#, "order_line", "order_tag_rel", "idempotency_key"]

  /// Table, the columns that are written, and those that are only read. Whatever is no table has no xmin.
  private static let columns = """
    (values \(rowColumns)
      ('"order"', '{name,contact_id}', '{xmin,id}'),
      ('order_line', '{order_id,product_id,quantity,price}', '{xmin,id}'),
      ('order_tag_rel', '{order_id,tag_id}', '{xmin}'),
      ('idempotency_key', '{key,fingerprint,mode,reply,created_at}', '{ctid}')) t (name, written, other)
      cross join to_regclass(t.name) r (oid)
    """

  private static let rowColumns = Resource.rowStatements.map {
    "('\($0.table)', '{\($0.columns.joined(separator: ","))}'::name[], '{xmin,id}'::name[]),"
  }.joined()

  private static let functions =
    [
      "text_version(text,bigint)", "line_version(bigint,bigint,bigint,numeric)", "order_row_version(xid,bigint,text)",
      "entity_tag(bigint)", "entity_tag(numeric)", "tag_link_version(bigint,text)", "whole_number(integer)",
      "whole_number(bigint)", "whole_number(numeric)", "whole_number(double precision)", "whole_number(text)",
      "order_entity_tag(bigint)", "order_lock(bigint,text[])",
      "order_rows(bigint)", "order_ids(bigint,bigint,bigint,bigint,text)",
      "order_insert(text,bigint,bigint[],integer[],numeric[],bigint[])",
      "order_insert_unchecked(text,bigint,bigint[],integer[],numeric[],bigint[])",
      "order_update(bigint,text,bigint,bigint[],integer[],numeric[],bigint[],text[])", "order_delete(bigint,text[])",
    ] + Resource.rowStatements.flatMap(functions)

  private static func functions(of rows: RowStatements) -> [String] {
    let texts = rows.columns.map { _ in "text" }.joined(separator: ",")
    return [
      "\(rows.table)_rows(bigint)", "\(rows.table)_insert(\(texts))", "\(rows.table)_update(bigint,\(texts),text[])",
      "\(rows.table)_delete(bigint,text[])",
    ]
  }

  private static func array(_ names: [String]) -> String {
    "array[\(names.map { "'\($0)'" }.joined(separator: ", "))]"
  }

  /// Which step the schema is at, and what is lacking, NULL for nothing: tables; columns, functions and the key; rights. It looks
  /// into the catalog alone: nothing is locked, so that no lock is in its way.
  static let health = Statement(
    "health", readOnly: true,
    """
    with function as materialized (select name, to_regprocedure(name) as oid from unnest(\(array(functions))) name)
    select coalesce(max(number), 0),
      (select string_agg(name, ', ') from unnest(\(array(tables))) name where to_regclass(name) is null),
      (select string_agg(name, ', ') from (
        select t.name || '.' || c from \(columns) cross join unnest(t.written || t.other) c
          where r.oid is not null and not exists (select from pg_attribute where attrelid = r.oid and attname = c offset 0)
        union all
        select name from function where oid is null
        union all
        select 'the primary key of idempotency_key' where not exists (
          select from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attname = 'key'
          where i.indrelid = to_regclass('idempotency_key') and i.indisunique and i.indisvalid and i.indimmediate
            and i.indpred is null and i.indnkeyatts = 1 and i.indkey[0] = a.attnum)) part (name)),
      (select string_agg(name, ', ') from (
        select p || ' on ' || t.name from \(columns) cross join unnest('{select,insert,update,delete}'::text[]) p
          where not has_table_privilege(r.oid, p) and (p in ('select', 'delete') or exists (
            select from pg_attribute where attrelid = r.oid and attname = any (t.written)
              and not has_column_privilege(r.oid, attnum, p)))
        union all
        select 'execute on ' || name from function where not has_function_privilege(oid, 'execute')) lack (name))
    from schema_migration
    """)

  /// Schemas that have our tables and that the role may not use: it sees none of them then.
  static let unusableSchemas = Statement(
    "unusable_schemas", readOnly: true,
    """
    select string_agg(format('%I', n.nspname), ', ') from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relname = 'schema_migration' and c.relkind = 'r' and not has_schema_privilege(n.oid, 'usage')
    """)
}

/// What `health` has come to.
package struct DatabaseState: Sendable {
  package var schema = SchemaState.unknown
  /// What is wrong with the database, if something is.
  package var fault: PostgresError?
  /// What is not as it should be with the schema, and what to do, for whoever runs it; nil if nothing.
  package var remark: String?

  package var isWell: Bool { fault == nil && remark == nil && schema == .ok }

  package init(_ result: QueryResult) {
    switch result {
    case .success(let rows) where rows.rowCount > 0:
      let state = Schema.migrations.state(at: rows.integer(0, 0))
      schema = state
      remark = state.remark
      func lacking(_ column: Int) -> String? { rows.isNull(0, column) ? nil : rows.string(0, column) }
      if let tables = lacking(1) {
        schema = .missing
        remark = "\(SchemaState.missing.remark ?? "") (it lacks \(tables))"
      } else if state != .ok {
        return
      } else if let parts = lacking(2) {
        schema = .missing
        remark = "the database's schema is not as 'forkloop migrate' has made it: it lacks \(parts)"
      } else if let rights = lacking(3) {
        schema = .unknown
        remark = "the role has not the rights that it needs: run 'forkloop setup', or grant \(rights)"
      }
    case .success: schema = .missing
    case .failure(.statement(let fault)) where fault.state == .undefinedTable:
      schema = .missing
      remark = SchemaState.missing.remark
    case .failure(let error): fault = error
    }
  }
}
