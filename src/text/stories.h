// The embedded corpus (--data stories): short English stories, told by a small simulation of a small world.
//
// A story is a pure function of (seed, index): one line of ASCII, 150 to 600 bytes, the same everywhere.
// The caller puts its end token between two stories. What happened is kept beside the text, so that a test
// can replay it and hold every sentence against the world.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

std::string story(uint64_t seed, long index);

// Stories 0, 1, 2, ... of the seed that belong to one side of the split, each ended by '\n', until `bytes`
// are reached. The side depends on who and what a story is about, never on the seed: a held-out combination
// of hero, friend, object and plot appears in no training set.
std::string story_set(bool held_out, long bytes, uint64_t seed);

enum class Act {
    start,
    exist,
    once,
    kind,
    selfish,
    meet,
    has,
    sees,
    go,
    set_off,
    through,
    lead,
    lead_through,
    take,
    find,
    vain,
    put,
    carry_off,
    drop,
    miss,
    sad,
    sad_for,
    happy,
    proud,
    ask_where,
    tell_where,
    tell_here,
    unknown,
    notice,
    need,
    ask_for,
    refuse,
    regret,
    want,
    give,
    trade,
    lend,
    use,
    use_both,
    wreck,
    sorry,
    excuse,
    forgive,
    ask_help,
    mend,
    blow,
    reach,
    climb_down,
    lift_down,
    rain,
    wet,
    open,
    dry,
    dark,
    scared,
    only,
    light,
    hungry,
    eat,
    share,
    stuck,
    pull,
    free,
    box,
    locked,
    unlock,
    snatch,
    prize,
    game,
    hide,
    seek,
    found,
    errand,
    birthday,
    feed,
    wish,
    show,
    thank,
    friends
};

// Who and what an event is about: persons A and B, things x and y, place p and a spot there. -1: none.
struct Roles { int A = -1, B = -1, x = -1, y = -1, p = -1, spot = -1; };

struct Event {
    Act act;
    Roles roles;
    int from, to;                        // its bytes of the text; empty for what is so but is not told
};

// One naming of a person (or thing) in the text. A pronoun must mean the last one named of its gender.
struct Mention {
    int who;                             // a person 0..2, or 10 + a thing
    bool pronoun;
    int at;                              // byte of the text
};

struct Tale {
    std::string text;
    std::vector<Event> events;
    std::vector<Mention> mentions;
    std::string_view person[3];          // the hero, a friend, a helper
    std::string_view thing[3], plot;     // thing[0]: what the tale is about
    bool she[3] = {}, generous[3] = {};
    bool held_out = false;
    int attempts = 0;                    // tellings thrown away because they were too long or too short
};

Tale tell(uint64_t seed, long index);
bool next_to(int p, int q);              // can one walk from place p to place q at once?
std::string_view place_name(int p);
std::string_view spot_name(int p, int spot);
