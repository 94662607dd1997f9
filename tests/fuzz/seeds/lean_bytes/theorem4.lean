theorem thm0 (a b : Nat) : b + b + 0 = b + b + 0 := by
  rw [Nat.add_comm (b + b) 0]

