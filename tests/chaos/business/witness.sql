-- The business database records each change of stock and each step of an order when it is committed.
-- Rows of one transaction have the same `xmin`, so a change can be joined with its cause.

CREATE TABLE stock_change (campaign_id BIGINT, units_before BIGINT, units_after BIGINT, units_min BIGINT);
CREATE FUNCTION note_stock() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO stock_change VALUES (OLD.campaign_id, OLD.stock, NEW.stock, OLD.stock_min);
    RETURN NULL;
END $$;
CREATE TRIGGER note_stock AFTER UPDATE OF stock ON campaign FOR EACH ROW EXECUTE FUNCTION note_stock();

-- A step is noted whenever it is carried out, even if it changes nothing.
CREATE TABLE order_step (order_id BIGINT, step TEXT);
CREATE FUNCTION note_step() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO order_step VALUES (NEW.order_id, TG_ARGV[0]);
    RETURN NULL;
END $$;
CREATE TRIGGER note_posted AFTER UPDATE OF ledger_posted ON split_order FOR EACH ROW EXECUTE FUNCTION note_step('posted');
CREATE TRIGGER note_paid AFTER UPDATE OF paid_out ON split_order FOR EACH ROW EXECUTE FUNCTION note_step('paid');

-- The state in which an order was created.
CREATE TABLE order_begun (order_id BIGINT PRIMARY KEY, posted BIGINT, paid BIGINT);
INSERT INTO order_begun SELECT order_id, ledger_posted, paid_out FROM split_order;
CREATE FUNCTION note_begun() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO order_begun VALUES (NEW.order_id, NEW.ledger_posted, NEW.paid_out);
    RETURN NULL;
END $$;
CREATE TRIGGER note_begun AFTER INSERT ON split_order FOR EACH ROW EXECUTE FUNCTION note_begun();

-- Units that customers took, by buying or by a lease.
CREATE TABLE taken (campaign_id BIGINT, units BIGINT);

-- The host keeps the campaign of a compensation in the payload of the item. This table keeps it for the
-- checks.
CREATE TABLE handed_in (record_key TEXT PRIMARY KEY, kind TEXT, campaign_id BIGINT, units BIGINT);
