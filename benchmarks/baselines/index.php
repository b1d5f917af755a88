<?php
// The three requests that baselines are compared on, as one would write them with PDO: for PHP-FPM, under 'forkloop compare
// --baselines'. A persistent connection a child, prepared statements, and no rules beyond the database's.
$db = new PDO('pgsql:host=' . getenv('DB_HOST') . ';dbname=' . getenv('DB_NAME') . ';user=' . getenv('DB_USER'), null, null, [
    PDO::ATTR_PERSISTENT => true, PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION, PDO::ATTR_DEFAULT_FETCH_MODE => PDO::FETCH_ASSOC]);

function rows(PDO $db, string $sql, array $values): array {
    $statement = $db->prepare($sql);
    $statement->execute($values);
    return $statement->fetchAll();
}

function answer(int $status, mixed $value): never {
    http_response_code($status);
    header('Content-Type: application/json');
    echo json_encode($value, JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE);
    exit;
}

// "3.00" as 3, "2.7500" as 2.75.
function number(string $text): int|float {
    $value = (float) $text;
    return $value == (int) $value ? (int) $value : $value;
}

function orders(PDO $db, array $orders): array {
    if (!$orders) return [];
    $ids = '{' . implode(',', array_column($orders, 'id')) . '}';
    $lines = $tags = [];
    foreach (rows($db, 'select order_id, product_id, quantity, price from order_line where order_id = any (?::bigint[]) order by id', [$ids]) as $row) {
        $lines[$row['order_id']][] = ['product_id' => $row['product_id'], 'quantity' => $row['quantity'], 'price' => number($row['price'])];
    }
    $sql = 'select order_id, name from order_tag_rel join tag on tag.id = tag_id where order_id = any (?::bigint[]) order by tag_id';
    foreach (rows($db, $sql, [$ids]) as $row) $tags[$row['order_id']][] = ['name' => $row['name']];
    return array_map(function ($order) use ($lines, $tags) {
        $mine = $lines[$order['id']] ?? [];
        $total = round(array_sum(array_map(fn($line) => $line['quantity'] * $line['price'], $mine)), 2);
        return [...$order, 'order_lines' => $mine, 'tags' => $tags[$order['id']] ?? [], 'amount_total' => number((string) $total)];
    }, $orders);
}

$path = explode('/', substr($_SERVER['REQUEST_URI'], strlen('/sync/')));
if ($path[0] === 'contact' && isset($path[1])) {
    $found = rows($db, 'select id, name, email from contact where id = ?', [$path[1]]);
    $found ? answer(200, $found[0]) : answer(404, null);
}
if ($path[0] === 'order' && $_SERVER['REQUEST_METHOD'] === 'POST') {
    $input = json_decode(file_get_contents('php://input'), true, 64, JSON_THROW_ON_ERROR);
    $db->beginTransaction();
    [$order] = rows($db, 'insert into "order" (name, contact_id) values (?, ?) returning id, name, contact_id', [$input['name'], $input['contact_id']]);
    foreach ($input['order_lines'] as $line) {
        rows($db, 'insert into order_line (order_id, product_id, quantity, price) values (?, ?, ?, ?)',
            [$order['id'], $line['product_id'], $line['quantity'], $line['price']]);
    }
    foreach ($input['tag_ids'] as $tag) rows($db, 'insert into order_tag_rel (order_id, tag_id) values (?, ?)', [$order['id'], $tag]);
    $db->commit();
    answer(201, orders($db, [$order])[0]);
}
if ($path[0] === 'order') {
    $sql = 'select id, name, contact_id from "order" where id > ? order by id limit ?';
    answer(200, orders($db, rows($db, $sql, [$_GET['after'] ?? 0, $_GET['limit'] ?? 100])));
}
answer(404, null);
