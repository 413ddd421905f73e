-- The table may be there already: this service is put in front of databases that have one.
CREATE TABLE IF NOT EXISTS users (
  id SERIAL PRIMARY KEY,
  name VARCHAR(100),
  email VARCHAR(100),
  bio TEXT,
  created_at TIMESTAMP DEFAULT NOW()
);
