theorem thm0 (a b c : Nat) : a + (c + (b + a)) = a + (b + a + c) := by
  rw [Nat.add_comm c (b + a)]

