// The fourth step of the schema: what says which state a row shows, what rows may hold, and what is locked before a write.

import Postgres

extension Schema {
  static let contents = Migration(
    4, "versions by content, values that JSON has, locks in one order, filters by size",
    #"""
    -- What a row shows comes to a number of 64 bits: its version. A thing's version is the exclusive or of those of its rows,
    -- each of which has an id of its own in it.
    create function text_version(text, bigint) returns bigint language sql immutable parallel safe as $$
      select hashtextextended($1 collate "C", $2)
    $$;
    create function line_version(id bigint, product bigint, quantity bigint, price numeric)
    returns bigint language sql immutable parallel safe as $$
      select hash_numeric_extended($4, hashint8extended($3, $1) # $2)
    $$;
    -- Of the transaction that wrote the order's row last, too: who writes what stands there already has written.
    create function order_row_version(xid, contact bigint, name text)
    returns bigint language sql immutable parallel safe as $$
      select hashtextextended($3 collate "C", hashint8extended($1::text::bigint, $2))
    $$;
    create function entity_tag(bigint) returns text language sql immutable parallel safe as $$
      select lpad(to_hex($1), 16, '0')
    $$;
    -- The server has one of its own from version 14 on.
    create aggregate all_versions(bigint) (sfunc = int8xor, stype = bigint, initcond = '0', parallel = safe);
    create function order_entity_tag(bigint) returns text language sql stable as $$
      select entity_tag(all_versions(version)) from (
        select order_row_version(xmin, contact_id, name) as version from "order" where id = $1
        union all
        select line_version(id, product_id, quantity, price) from order_line where order_id = $1
        union all
        select text_version(t.name, t.id) from order_tag_rel r join tag t on t.id = r.tag_id where r.order_id = $1) parts
    $$;

    -- Takes an order's lock; false if there is none. With entity tags that it may have, it then has one of them, or NULL is
    -- returned. Each statement in here sees what was committed before it began: behind the locks nobody else changes what the
    -- order shows, but for the names of its tags, which no write of an order overwrites.
    create function order_lock(bigint, text[]) returns boolean language plpgsql as $$
      begin
        -- Nobody adds lines or links meanwhile either: their foreign keys need the order's row.
        perform from "order" where id = $1 for update;
        if not found then return false; end if;
        if $2 is null then return true; end if;
        perform from order_line where order_id = $1 for share;
        perform from order_tag_rel where order_id = $1 for share;
        if order_entity_tag($1) = any ($2) then return true; end if;
        return null;
      end
    $$;

    create function order_rows(bigint)
    returns table (
      id bigint, kind integer, "position" bigint, name text, a bigint, b integer, c numeric, version bigint)
    language sql stable as $$
      select id, 0, 0::bigint, name::text, contact_id, null::integer, null::numeric,
          order_row_version(xmin, contact_id, name) from "order" where id = $1
        union all
        select order_id, 1, id, null, product_id, quantity::integer, price, line_version(id, product_id, quantity, price)
          from order_line where order_id = $1
        union all
        select r.order_id, 2, r.tag_id, t.name::text, null, null, null, text_version(t.name, t.id)
          from order_tag_rel r join tag t on t.id = r.tag_id where r.order_id = $1
    $$;

    -- As before, but: what the order is to refer to is locked first, each kind in the order of its ids, as whoever deletes it
    -- has it first and its references after that; and columns may have other types than ours, as long as these can be cast.
    create or replace function order_update(bigint, text, bigint, bigint[], integer[], numeric[], bigint[], text[])
    returns table (
      id bigint, kind integer, "position" bigint, name text, a bigint, b integer, c numeric, tag bigint)
    language plpgsql as $$
    #variable_conflict use_column
    declare
      mine boolean;
    begin
      if $3 is not null then perform from contact where id = $3 for key share; end if;
      if $4 is not null then perform from product where id = any ($4) order by id for key share; end if;
      if $7 is not null then perform from tag where id = any ($7) order by id for key share; end if;
      mine := order_lock($1, $8);
      if not mine then return; end if;
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
    end
    $$;

    create or replace function order_insert(text, bigint, bigint[], integer[], numeric[], bigint[])
    returns table (
      id bigint, kind integer, "position" bigint, name text, a bigint, b integer, c numeric, tag bigint)
    language plpgsql as $$
    #variable_conflict use_column
    declare
      made bigint;
    begin
      for attempt in 1..10 loop
        begin
          insert into "order" (name, contact_id) values ($1, $2) returning id into made;
          insert into order_line (order_id, product_id, quantity, price)
            select made, product_id, quantity, price
            from unnest($3, $4, $5) with ordinality s (product_id, quantity, price, n) order by n;
          insert into order_tag_rel (order_id, tag_id) select made, t from unnest($6) t;
          return query select * from order_rows(made);
          return;
        exception when foreign_key_violation then
          null;  -- All of it is undone.
        end;
        return query
          select $2, 3, null::bigint, null::text, null::bigint, null::integer, null::numeric, null::bigint
            where not exists (select from contact where id = $2)
          union all
          select p, 4, null, null, null, null, null, null
            from unnest($3) p where not exists (select from product where id = p)
          union all
          select t, 5, null, null, null, null, null, null
            from unnest($6) t where not exists (select from tag where id = t);
        if found then return; end if;
        -- What was missing has come in between.
      end loop;
      raise foreign_key_violation;
    end
    $$;

    -- Id, and the entity tags that the order may have, NULL for any. Nothing if there is no such order, else whether it was
    -- deleted. Its lines and tag links go along.
    create function order_delete(bigint, text[]) returns table (id bigint, deleted boolean) language plpgsql as $$
      #variable_conflict use_column
      declare
        mine boolean := order_lock($1, $2);
      begin
        if not mine then return; end if;
        if mine then delete from "order" where id = $1; end if;
        return query select $1, mine is not null;
      end
    $$;

    -- The ids of at most $2 orders after $1 that meet all of several filters, NULL for one that is not set. Goes through the
    -- index of the filter that is the sparsest from where it stands, for some hundred or thousand of its entries, and then looks
    -- again which one that is. Where one filter has no more, nor can all of them together.
    create function order_ids(
      after bigint, count bigint, contact bigint, product bigint, tag_name text) returns setof bigint
    language plpgsql stable rows 100 as $$
      declare
        tag bigint;
        step bigint := count;
        entry bigint;  -- Of a filter's index, so many behind `after`; beyond all if there are not as many.
        last bigint;  -- The one of the sparsest.
        lead text;  -- The sparsest.
        rows bigint;
      begin
        if tag_name is not null then
          select id into tag from tag where name = tag_name;
          if not found then return; end if;
        end if;
        loop
          last := after;
          if contact is not null then
            select id into entry from "order" where contact_id = contact and id > after order by id offset step limit 1;
            if not found then entry := 9223372036854775807; end if;
            if entry > last then
              lead := 'contact';
              last := entry;
            end if;
          end if;
          if product is not null then
            select order_id into entry from order_line where product_id = product and order_id > after order by order_id offset step limit 1;
            if not found then entry := 9223372036854775807; end if;
            if entry > last then
              lead := 'product';
              last := entry;
            end if;
          end if;
          if tag is not null then
            select order_id into entry from order_tag_rel where tag_id = tag and order_id > after order by order_id offset step limit 1;
            if not found then entry := 9223372036854775807; end if;
            if entry > last then
              lead := 'tag';
              last := entry;
            end if;
          end if;
          -- `offset 0` keeps the planner from reading all that another filter finds into a hash table.
          if lead = 'contact' then
            return query select f.id from "order" f where contact_id = contact and id > after and id <= last
              and (product is null or exists (
                select from order_line l where l.order_id = f.id and l.product_id = product offset 0))
              and (tag is null or exists (
                select from order_tag_rel r where r.order_id = f.id and r.tag_id = tag offset 0))
              order by id limit count;
          elsif lead = 'product' then
            return query select distinct f.order_id from order_line f
              where product_id = product and order_id > after and order_id <= last
              and (contact is null or exists (select from "order" o where o.id = f.order_id and o.contact_id = contact offset 0))
              and (tag is null or exists (
                select from order_tag_rel r where r.order_id = f.order_id and r.tag_id = tag offset 0))
              order by order_id limit count;
          else
            return query select f.order_id from order_tag_rel f
              where tag_id = tag and order_id > after and order_id <= last
              and (contact is null or exists (select from "order" o where o.id = f.order_id and o.contact_id = contact offset 0))
              and (product is null or exists (
                select from order_line l where l.order_id = f.order_id and l.product_id = product offset 0))
              order by order_id limit count;
          end if;
          get diagnostics rows = row_count;
          count := count - rows;
          exit when count <= 0 or last = 9223372036854775807;
          after := last;
          step := least(4 * step, 4000);
        end loop;
      end
    $$;

    -- Keys that have expired are looked for where the table's rows stand, and not by their age: an index keeps those that are
    -- gone for as long as somebody's snapshot may see them.
    drop index idempotency_key_created_at;

    -- What the API has no way to show or to refer to. Rows that are there already may be so: then the constraint holds for new
    -- ones only.
    alter table contact add constraint contact_id_positive check (id > 0) not valid,
      add constraint contact_name_not_blank check (btrim(name, E' \t\n\x0b\f\r') <> '') not valid;
    alter table product add constraint product_id_positive check (id > 0) not valid,
      add constraint product_name_not_blank check (btrim(name, E' \t\n\x0b\f\r') <> '') not valid;
    alter table tag add constraint tag_id_positive check (id > 0) not valid,
      add constraint tag_name_not_blank check (btrim(name, E' \t\n\x0b\f\r') <> '') not valid;
    alter table "order" add constraint order_id_positive check (id > 0) not valid,
      add constraint order_name_not_blank check (btrim(name, E' \t\n\x0b\f\r') <> '') not valid;
    -- NaN is greater than all numbers.
    alter table order_line add constraint order_line_id_positive check (id > 0) not valid,
      add constraint order_line_price_finite check (price < 'Infinity') not valid;
    alter table idempotency_key add constraint idempotency_key_mode check (mode in ('sync', 'async')) not valid;
    do $$
      declare
        unproven record;
      begin
        for unproven in select conrelid::regclass as of, conname as name from pg_constraint
          where not convalidated and conname in (
            'contact_id_positive', 'contact_name_not_blank', 'product_id_positive', 'product_name_not_blank',
            'tag_id_positive', 'tag_name_not_blank', 'order_id_positive', 'order_name_not_blank',
            'order_line_id_positive', 'order_line_price_finite', 'idempotency_key_mode')
            and conrelid in (
              'contact'::regclass, 'product'::regclass, 'tag'::regclass, '"order"'::regclass, 'order_line'::regclass,
              'idempotency_key'::regclass)
        loop
          begin
            execute format('alter table %s validate constraint %I', unproven.of, unproven.name);
          exception when check_violation then
            null;
          end;
        end loop;
      end
    $$;
    """#)
}
