// The fifth step of the schema: a write answers what the tables then hold.
//
// The owner of a database may give a column another type, and triggers change what is written, before and after it is. So a write
// is a function, which reads what it has written in a statement of its own, as a GET reads it. Where something of the database's
// own suppresses a write, such as a trigger that returns NULL or a policy, the function fails, and nothing of it is kept. A row
// that already is as it was to become is not one of those: `suppress_redundant_updates_trigger` is such a trigger.

import Postgres

extension Schema {
  static let answers = Migration(
    5, "a write answers what the tables hold",
    rowWrites("contact", ["name", "email"]) + rowWrites("product", ["name"]) + rowWrites("tag", ["name"]) + orderWrites)

  private static let orderWrites = #"""
    -- A text may be NULL where somebody lets it be. It is shown as an empty one.
    create or replace function text_version(text, bigint) returns bigint language sql immutable parallel safe as $$
      select hashtextextended(coalesce($1, '') collate "C", $2)
    $$;
    create or replace function order_row_version(xid, contact bigint, name text)
    returns bigint language sql immutable parallel safe as $$
      select hashtextextended(coalesce($3, '') collate "C", hashint8extended($1::text::bigint, $2))
    $$;

    -- What a GET shows of an order.
    create or replace function order_rows(bigint)
    returns table (
      id bigint, kind integer, "position" bigint, name text, a bigint, b integer, c numeric, version bigint)
    language sql stable as $$
      select id, 0, 0::bigint, name::text, contact_id::bigint, null::integer, null::numeric,
          order_row_version(xmin, contact_id, name::text) from "order" where id = $1
        union all
        select order_id, 1, id, null, product_id::bigint, quantity::integer, price::numeric,
          line_version(id, product_id, quantity::integer, price::numeric) from order_line where order_id = $1
        union all
        select r.order_id, 2, r.tag_id, t.name::text, null, null, null, text_version(t.name::text, t.id)
          from order_tag_rel r join tag t on t.id = r.tag_id where r.order_id = $1
    $$;
    create or replace function order_entity_tag(bigint) returns text language sql stable as $$
      select entity_tag(all_versions(version)) from order_rows($1)
    $$;

    -- Name, contact, products, quantities and prices of the lines, tags. The foreign keys find out that something is missing.
    create function order_insert_unchecked(text, bigint, bigint[], integer[], numeric[], bigint[])
    returns table (
      id bigint, kind integer, "position" bigint, name text, a bigint, b integer, c numeric, tag bigint)
    language plpgsql as $$
    #variable_conflict use_column
    declare
      made bigint;
    begin
      insert into "order" (name, contact_id) values ($1, $2) returning id into made;
      if made is not null then
        if cardinality($3) > 0 then
          insert into order_line (order_id, product_id, quantity, price) select made, unnest($3), unnest($4), unnest($5);
        end if;
        if cardinality($6) > 0 then
          insert into order_tag_rel (order_id, tag_id) select made, unnest($6);
        end if;
        return query select * from order_rows(made);
        if found then return; end if;
      end if;
      raise exception 'the order was not written: a trigger or a policy of the database''s own has suppressed it';
    end
    $$;

    -- The same, which tells what is missing; it costs more.
    create or replace function order_insert(text, bigint, bigint[], integer[], numeric[], bigint[])
    returns table (
      id bigint, kind integer, "position" bigint, name text, a bigint, b integer, c numeric, tag bigint)
    language plpgsql as $$
    begin
      for attempt in 1..10 loop
        begin
          return query select * from order_insert_unchecked($1, $2, $3, $4, $5, $6);
          return;
        exception when foreign_key_violation then
          null;  -- All of it is undone.
        end;
        return query
          select $2, 3, null::bigint, null::text, null::bigint, null::integer, null::numeric, null::bigint
            where not exists (select from contact where contact.id = $2)
          union all
          select p, 4, null, null, null, null, null, null
            from unnest($3) p where not exists (select from product where product.id = p)
          union all
          select t, 5, null, null, null, null, null, null
            from unnest($6) t where not exists (select from tag where tag.id = t);
        if found then return; end if;
        -- What was missing has come in between.
      end loop;
      raise foreign_key_violation;
    end
    $$;

    create or replace function order_update(bigint, text, bigint, bigint[], integer[], numeric[], bigint[], text[])
    returns table (
      id bigint, kind integer, "position" bigint, name text, a bigint, b integer, c numeric, tag bigint)
    language plpgsql as $$
    #variable_conflict use_column
    declare
      mine boolean;
      gone constant text := 'the order was not written: a trigger or a policy of the database''s own has suppressed it';
    begin
      if $3 is not null then perform from contact where id = $3 for key share; end if;
      if $4 is not null then perform from product where id = any ($4) order by id for key share; end if;
      if $7 is not null then perform from tag where id = any ($7) order by id for key share; end if;
      mine := order_lock($1, $8);
      if not mine then
        -- Some may be read that may not be locked.
        perform from "order" where id = $1;
        if not found then return; end if;
        if $8 is null or order_entity_tag($1) = any ($8) then raise exception '%', gone; end if;
        mine := null;
      end if;
      if mine is null then
        return query select $1, 6, null::bigint, null::text, null::bigint, null::integer, null::numeric, null::bigint;
        return;
      end if;
      return query
        select $3, 3, null::bigint, null::text, null::bigint, null::integer, null::numeric, null::bigint
          where not exists (select from contact where id = $3) and $3 is not null
        union all
        select distinct p, 4, null::bigint, null, null::bigint, null::integer, null::numeric, null::bigint
          from unnest($4) p where not exists (select from product where id = p)
        union all
        select t, 5, null, null, null, null, null, null
          from unnest($7) t where not exists (select from tag where id = t);
      if found then return; end if;
      update "order" set name = coalesce($2, name), contact_id = coalesce($3, contact_id) where id = $1;
      if not found then
        perform from "order" where id = $1
          and (name::text, contact_id) is not distinct from (coalesce($2, name::text), coalesce($3, contact_id));
        if not found then raise exception '%', gone; end if;
      end if;
      if $4 is not null then
        delete from order_line where order_id = $1;
        insert into order_line (order_id, product_id, quantity, price)
          select $1, product_id, quantity, price
          from unnest($4, $5, $6) with ordinality s (product_id, quantity, price, n) order by n;
      end if;
      if $7 is not null then
        delete from order_tag_rel where order_id = $1 and tag_id <> all ($7);
        insert into order_tag_rel (order_id, tag_id) select $1, t from unnest($7) t on conflict do nothing;
      end if;
      return query select * from order_rows($1);
      if not found then raise exception '%', gone; end if;
    end
    $$;

    create or replace function order_delete(bigint, text[]) returns table (id bigint, deleted boolean) language plpgsql as $$
      #variable_conflict use_column
      declare
        mine boolean := order_lock($1, $2);
      begin
        if mine is null then
          return query select $1, false;
          return;
        end if;
        delete from "order" where id = $1 and (mine or $2 is null or order_entity_tag($1) = any ($2));
        if found then
          return query select $1, true;
          return;
        end if;
        perform from "order" where id = $1;
        if found and order_entity_tag($1) <> all ($2) then
          return query select $1, false;
        elsif found then
          raise exception 'the order was not deleted: a trigger or a policy of the database''s own has suppressed it';
        elsif mine then
          return query select $1, true;
        end if;
      end
    $$;
    """#
}
