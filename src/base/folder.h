// folder.h: a folder that a run writes into, found to be writable before the run begins,
// and its alone while it lives.
#pragma once
#include <string>

class OwnFolder {
public:
    // Makes it if it is not there; an Error if it cannot be written or belongs to a run that still lives.
    // What runs that were killed left half written is removed.
    explicit OwnFolder(const std::string &path);
    OwnFolder(const OwnFolder &) = delete;
    ~OwnFolder();

private:
    std::string path;
    bool made = false;               // here, and empty: it goes again
    int file = -1;
};
