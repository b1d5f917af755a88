// The functions of the schema that write things of one row each.
//
// Steps that have been released are made of what stands here: it says for their tables what it always has.

extension Schema {
  /// Why nothing was written, for the log.
  private static func suppressed(_ what: String) -> String {
    "raise exception 'the \(what) was not written: a trigger or a policy of the database''s own has suppressed it'"
  }

  /// The functions that write a table of which a thing is one row. All columns are sent as texts.
  ///
  /// An update has NULL for what stays. So of an optional column the empty text, which no column may hold, is none.
  static func rowWrites(_ table: String, _ columns: [String], optional: Set<String> = []) -> String {
    func value(_ index: Int, else old: String) -> String {
      let sent = "$\(index + 2)"
      return optional.contains(columns[index])
        ? "case when \(sent) is null then \(old) else nullif(\(sent), '') end" : "coalesce(\(sent), \(old))"
    }
    let names = columns.joined(separator: ", ")
    let types = columns.map { _ in "text" }.joined(separator: ", ")
    let texts = columns.map { "\($0)::text" }.joined(separator: ", ")
    let nulls = columns.map { _ in "null::text" }.joined(separator: ", ")
    let values = columns.indices.map { "$\($0 + 1)" }.joined(separator: ", ")
    let sent = columns.enumerated().map { value($0, else: "\($1)::text") }.joined(separator: ", ")
    let assignments = columns.enumerated().map { "\($1) = \(value($0, else: $1))" }.joined(separator: ", ")
    let version = columns.reduce("xmin::text::bigint") { "text_version(\($1)::text, \($0))" }
    let condition = "$\(columns.count + 2)"
    let result = "table (id bigint, \(columns.map { "\($0) text" }.joined(separator: ", ")), tag bigint)"
    return """
      create function \(table)_rows(bigint) returns \(result) language sql stable rows 1 as $$
        select id, \(texts), \(version) from \(table) where id = $1
      $$;

      create function \(table)_insert(\(types)) returns \(result) language plpgsql rows 1 as $$
      #variable_conflict use_column
      declare
        made bigint;
      begin
        insert into \(table) (\(names)) values (\(values)) returning id into made;
        return query select * from \(table)_rows(made);
        if not found then \(suppressed(table)); end if;
      end
      $$;

      -- Id, columns, NULL for what stays, and the entity tags that the row may have, NULL for any. Nothing if there is no such
      -- row; a row of NULLs if it has none of the tags.
      create function \(table)_update(bigint, \(types), text[]) returns \(result) language plpgsql rows 1 as $$
      #variable_conflict use_column
      begin
        update \(table) set \(assignments) where id = $1 and (\(condition) is null or entity_tag(\(version)) = any (\(condition)));
        if found then
          return query select * from \(table)_rows($1);
          if not found then \(suppressed(table)); end if;
          return;
        end if;
        perform from \(table) where id = $1;
        if not found then return; end if;
        return query
          select null::bigint, \(nulls), null::bigint from \(table)_rows($1) where entity_tag(tag) <> all (\(condition));
        if found then return; end if;
        return query select * from \(table)_rows($1) where (\(texts)) is not distinct from (\(sent));
        if not found then \(suppressed(table)); end if;
      end
      $$;

      -- Id, and the entity tags that the row may have, NULL for any. Nothing if there is no such row, else whether it was deleted.
      create function \(table)_delete(bigint, text[]) returns table (id bigint, deleted boolean) language plpgsql rows 1 as $$
      #variable_conflict use_column
      declare
        shown text;
        mine boolean := false;
      begin
        -- Behind the lock nobody else can have deleted it: what is gone then is gone by this, however the database does it. A
        -- policy may keep it from being locked, but not from being deleted.
        if has_any_column_privilege('\(table)', 'update') then
          select entity_tag(\(version)) into shown from \(table) where id = $1 for update;
          mine := found;
        end if;
        if shown <> all ($2) then
          return query select $1, false;
          return;
        end if;
        delete from \(table) where id = $1 and (mine or $2 is null or entity_tag(\(version)) = any ($2));
        if found then
          return query select $1, true;
          return;
        end if;
        select entity_tag(\(version)) into shown from \(table) where id = $1;
        if shown <> all ($2) then
          return query select $1, false;
        elsif found then
          \(suppressed(table));
        elsif mine then
          return query select $1, true;
        end if;
      end
      $$;

      """
  }
}
