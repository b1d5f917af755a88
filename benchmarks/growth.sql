-- For benchmarks/growth: into an empty database of ours.
insert into contact (name, email) select 'c' || i, 'c@example.org' from generate_series(1, 1000) i;
insert into product (name) select 'p' || i from generate_series(1, 1000) i;
insert into tag (name) select 't' || i from generate_series(1, 100) i;
insert into "order" (name, contact_id) select 'o' || i, i % 1000 + 1 from generate_series(1, 1000000) i;
insert into order_line (order_id, product_id, quantity, price)
  select o, (o * k) % 1000 + 1, 1, 9.99 from generate_series(1, 1000000) o, generate_series(1, 3) k;
insert into order_tag_rel (order_id, tag_id) select o, (o + k) % 100 + 1 from generate_series(1, 1000000) o, generate_series(1, 2) k;
insert into "order" (name, contact_id) select 'big' || i, 1 from generate_series(1, 10) i;
insert into order_line (order_id, product_id, quantity, price)
  select 1000000 + n, 1, 1, 9.99
  from (values (1, 1), (2, 2), (3, 5), (4, 10), (5, 20), (6, 50), (7, 100), (8, 200), (9, 500), (10, 1000)) v(n, c), generate_series(1, c);
vacuum analyze contact, product, tag, "order", order_line, order_tag_rel;
