// The sixth step of the schema: what a row comes to is a digest of all that it shows, and no order is left in a state that can't be
// told.
//
// A digest is made of the exact text of each value, one after the other, each of which starts from what the ones before it have
// come to. PostgreSQL's own hashes of numbers do not do: that of a numeric is that of its digits, whatever their weight, and that
// of a bigint the same for two halves in either order. The rows of an order are added up: two of them that are alike do not make
// up for each other.

import Postgres

extension Schema {
  static let digests = Migration(
    6, "digests of exact values, writes only of what can be told",
    versions + rows + order("made", insert) + order("$1", update))

  private static let versions = """
    -- NULL is no empty text.
    create or replace function text_version(text, bigint) returns bigint language sql immutable parallel safe as $$
      select hashtextextended(coalesce('.' || $1, '') collate "C", $2)
    $$;
    create or replace function order_row_version(xid, contact bigint, name text)
    returns bigint language sql immutable parallel safe as $$
      select text_version($3, text_version($2::text, $1::text::bigint))
    $$;
    -- The id comes last, so that what is alike in two lines has gone through more than one round.
    create or replace function line_version(id bigint, product bigint, quantity bigint, price numeric)
    returns bigint language sql immutable parallel safe as $$
      select hashtextextended(coalesce($1::text, '') collate "C", hashtextextended(coalesce($2::text, '') collate "C",
        hashtextextended(coalesce($3::text, '') collate "C", hashtextextended(coalesce($4::text, '') collate "C", 1))))
    $$;
    create function tag_link_version(tag bigint, name text) returns bigint language sql immutable parallel safe as $$
      select hashtextextended(coalesce($1::text, '') collate "C", text_version($2, 2))
    $$;

    -- The sum of versions, in 64 bits as the program adds them up.
    create function entity_tag(numeric) returns text language sql immutable parallel safe as $$
      select entity_tag((case when rest >= 9223372036854775808 then rest - 18446744073709551616
        when rest < -9223372036854775808 then rest + 18446744073709551616 else rest end)::bigint)
      from mod($1, 18446744073709551616) rest
    $$;

    """

  private static let rows = """
    -- A quantity of another type than ours. NULL if it is no whole number that ours would hold: none is put in its place.
    create function whole_number(integer) returns integer language sql immutable parallel safe as 'select $1';
    create function whole_number(numeric) returns integer language sql immutable parallel safe as $$
      select case when $1 between -2147483648 and 2147483647 and $1 = trunc($1) then $1::integer end
    $$;
    create function whole_number(bigint) returns integer language sql immutable parallel safe as $$
      select case when $1 between -2147483648 and 2147483647 then $1::integer end
    $$;
    create function whole_number(double precision) returns integer language sql immutable parallel safe as $$
      select whole_number($1::numeric)
    $$;
    create function whole_number(text) returns integer language sql immutable parallel safe as $$
      select whole_number($1::numeric)
    $$;

    create or replace function order_rows(bigint)
    returns table (
      id bigint, kind integer, "position" bigint, name text, a bigint, b integer, c numeric, version bigint)
    language sql stable as $$
      select id, 0, 0::bigint, name::text, contact_id::bigint, null::integer, null::numeric,
          order_row_version(xmin, contact_id, name::text) from "order" where id = $1
        union all
        select order_id, 1, id, null, product_id::bigint, whole_number(quantity), price::numeric,
          line_version(id, product_id, whole_number(quantity), price::numeric) from order_line where order_id = $1
        union all
        select r.order_id, 2, r.tag_id, t.name::text, null, null, null, tag_link_version(t.id, t.name::text)
          from order_tag_rel r join tag t on t.id = r.tag_id where r.order_id = $1
    $$;
    create or replace function order_entity_tag(bigint) returns text language sql stable as $$
      select entity_tag(sum(version)) from order_rows($1)
    $$;
    drop aggregate all_versions(bigint);

    -- As before, but only where it is true that each statement sees what was committed before it began.
    create or replace function order_lock(bigint, text[]) returns boolean language plpgsql as $$
      begin
        if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
          raise exception 'an order is changed at isolation level read committed, and this session has %: run ''forkloop migrate'', '
            'which sets it for the role', current_setting('transaction_isolation');
        end if;
        perform from "order" where id = $1 for update;
        if not found then return false; end if;
        if $2 is null then return true; end if;
        perform from order_line where order_id = $1 for share;
        perform from order_tag_rel where order_id = $1 for share;
        if order_entity_tag($1) = any ($2) then return true; end if;
        return null;
      end
    $$;

    """

  /// A function that writes an order and, where that has not been suppressed, answers it; but if there is something in it that
  /// JSON has no way to say, or the API none to count with, it fails.
  private static func order(_ id: String, _ function: String) -> String {
    function.replacing(
      "ANSWER",
      with: """
        perform from "order" o where o.id = \(id) and (o.contact_id is null or exists (
              select from order_line l where l.order_id = o.id and (
                l.product_id is not null and whole_number(l.quantity) is not null
                and l.price::numeric between 0 and 9999999999.9999 and l.price::numeric = round(l.price::numeric, 4)) is not true));
            if found then
              raise exception 'order % can''t be written as JSON: it has a number that is out of its range, or none', \(id);
            end if;
            return query select * from order_rows(\(id));
        """)
  }

  private static let insert = #"""
    create or replace function order_insert_unchecked(text, bigint, bigint[], integer[], numeric[], bigint[])
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
        ANSWER
        if found then return; end if;
      end if;
      raise exception 'the order was not written: a trigger or a policy of the database''s own has suppressed it';
    end
    $$;

    """#

  private static let update = #"""
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
      ANSWER
      if not found then raise exception '%', gone; end if;
    end
    $$;

    """#
}
