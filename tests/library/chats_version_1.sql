-- A file of version 1 as that version made it, with a conversation in it. It stays as it is: people have such files.
CREATE TABLE chats (
        id INTEGER PRIMARY KEY AUTOINCREMENT, title TEXT NOT NULL, model TEXT NOT NULL, system TEXT NOT NULL,
        options TEXT NOT NULL, draft TEXT NOT NULL DEFAULT '', created REAL NOT NULL, changed REAL NOT NULL,
        gone_at REAL);
CREATE INDEX chats_by_change ON chats (changed);
CREATE TABLE turns (
        id INTEGER PRIMARY KEY AUTOINCREMENT, chat INTEGER NOT NULL REFERENCES chats ON DELETE CASCADE,
        parent INTEGER REFERENCES turns DEFERRABLE INITIALLY DEFERRED, role TEXT NOT NULL, text TEXT NOT NULL,
        attachments TEXT NOT NULL, state TEXT NOT NULL, model TEXT NOT NULL, facts TEXT NOT NULL,
        created REAL NOT NULL, picked INTEGER NOT NULL, writer INTEGER NOT NULL, gone INTEGER, gone_at REAL);
CREATE INDEX turns_by_parent ON turns (parent, chat, picked);
CREATE INDEX turns_by_chat ON turns (chat);
CREATE INDEX turns_running ON turns (writer) WHERE state = 'running';
CREATE INDEX turns_gone ON turns (gone) WHERE gone IS NOT NULL;
CREATE VIRTUAL TABLE words USING fts5 (text, content = '', tokenize = 'trigram');
INSERT INTO chats VALUES (7, 'Birds', '/models/q', 'Be brief.', '{"temperature": 0.5}', 'And th', 1000.5, 1002.5, NULL);
INSERT INTO turns VALUES (11, 7, NULL, 'user', 'Which bird?', '[["a.txt", "one"]]', 'done', '', '{}', 1001.5, 1, 5, NULL, NULL);
INSERT INTO turns VALUES (12, 7, 11, 'assistant', 'A plane.', '[]', 'done', '/models/q', '{}', 1002.0, 1, 5, NULL, NULL);
INSERT INTO turns VALUES (13, 7, 11, 'assistant', 'A crane.', '[]', 'done', '/models/q', '{"tokens": 3}', 1002.5, 2, 5, NULL, NULL);
INSERT INTO words (rowid, text) VALUES (11, 'which bird?'), (12, 'a plane.'), (13, 'a crane.');
CREATE TRIGGER turn_added AFTER INSERT ON turns WHEN new.state <> 'running' BEGIN
        INSERT INTO words (rowid, text) VALUES (new.id, searchable(new.text)); END;
CREATE TRIGGER turn_changes BEFORE UPDATE OF text, state ON turns WHEN old.state <> 'running' BEGIN
        INSERT INTO words (words, rowid, text) VALUES ('delete', old.id, searchable(old.text)); END;
CREATE TRIGGER turn_changed AFTER UPDATE OF text, state ON turns WHEN new.state <> 'running' BEGIN
        INSERT INTO words (rowid, text) VALUES (new.id, searchable(new.text)); END;
CREATE TRIGGER turn_deleted AFTER DELETE ON turns WHEN old.state <> 'running' BEGIN
    INSERT INTO words (words, rowid, text) VALUES ('delete', old.id, searchable(old.text)); END;
PRAGMA user_version = 1;
