#!/bin/sh
# A contact, a product, a tag and an order with curl: made once, read, changed and deleted.
# usage: orders.sh [http://127.0.0.1:8080/sync]
set -eu
api=${1:-http://127.0.0.1:8080/sync}

# -f: an error status ends the script; the answer says what was wrong.
call() { curl -sS --fail-with-body "$@"; echo; }
json='Content-Type: application/json'
created() { curl -sS --fail-with-body -o /dev/null -D - "$@" | tr -d '\r' | sed -n 's/^Location: .*\///p'; }

contact=$(created "$api/contact" -H "$json" -d '{"name":"Ann","email":"ann@example.org"}')
product=$(created "$api/product" -H "$json" -d '{"name":"Pen"}')
tag=$(created "$api/tag" -H "$json" -d "{\"name\":\"tag $$\"}")

# With a key of its own, a POST may be sent again without making a second order.
key=$(cat /proc/sys/kernel/random/uuid)
order="{\"name\":\"SO001\",\"contact_id\":$contact,\"tag_ids\":[$tag],
  \"order_lines\":[{\"product_id\":$product,\"quantity\":2,\"price\":1.25}]}"
id=$(created "$api/order" -H "$json" -H "Idempotency-Key: $key" -d "$order")
again=$(created "$api/order" -H "$json" -H "Idempotency-Key: $key" -d "$order")
[ "$id" = "$again" ]
call "$api/order/$id"

# Changed only if it is still what was read.
etag=$(curl -sS -o /dev/null -D - "$api/order/$id" | tr -d '\r' | sed -n 's/^ETag: //p')
call -X PATCH "$api/order/$id" -H 'Content-Type: application/merge-patch+json' -H "If-Match: $etag" -d '{"name":"SO001 b"}'

call "$api/order?contact_id=$contact&limit=10"
for path in "order/$id" "tag/$tag" "product/$product" "contact/$contact"; do call -X DELETE "$api/$path"; done
echo done
